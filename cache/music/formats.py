"""Which endings count as music, what stems are called, and the order that formats keep their channels in."""

from mixstyle.pipeline.core.stems import STEMS

LISTING_VERSION = 3
"""Of the rule which files of a folder are music. A folder of stems is finished by the one that it was begun with."""
SONGS_ALONE = 3
"""Since this version the stems of a song are no tracks where they are among mixtures."""

_SUFFIXES_1 = frozenset(
    ".mp3 .mp2 .flac .ogg .oga .opus .wav .wave .w64 .rf64 .aif .aiff .aifc .au .snd .caf "
    ".m4a .mp4 .aac .alac .wma .wv .ape .mpc".split()
)
_SUFFIXES_2 = _SUFFIXES_1 | frozenset(
    ".mp1 .mpga .webm .weba .mka .mkv .mov .m4b .m4p .m4r .m4v .3gp .3g2 .ac3 .eac3 .dts .amr .adts .tta .tak .ofr "
    ".ofs .shn .dsf .dff .ra .rm .spx .asf .oma .aa3 .aax .mp+ .voc .avr .sph .paf .svx .8svx .bwf "
    ".ogx .ogv".split()
)
AUDIO_SUFFIXES_OF = {1: _SUFFIXES_1, 2: _SUFFIXES_2, 3: _SUFFIXES_2}
"""By version: endings, in lower case, of the files that count as music. Nothing here reads some of them: they are there
to be told as failures, and not passed over."""

STEM_SUFFIXES = (".wav", ".flac", ".mp3")
EXTRA_STEMS = ("guitar", "piano")
"""Stems of six-stem separators: what they hold is missing from `other`."""
STEM_NAMES = frozenset({*STEMS, *EXTRA_STEMS})

MPEG_SUFFIXES = frozenset({".mp1", ".mp2", ".mp3", ".mpga"})

VORBIS_TO_WAV: dict[int, tuple[int, ...]] = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
"""Where Vorbis and Opus keep the channels of WAV's order (L R C LFE and the surrounds), by their number. Vorbis I
specification, section 4.3.9; RFC 7845, section 5.1.1.2. libsndfile hands them out as they are stored."""
