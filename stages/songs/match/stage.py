"""`mixstyle match`: a song brought to the mix of another; `mixstyle apply`: the same changes on other songs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mixstyle.cache.match_chain import MatchChain, read_chain, write_chain
from mixstyle.cache.music.formats import AUDIO_SUFFIXES_OF, LISTING_VERSION
from mixstyle.cache.music.reader import UnreadableMusic, probe
from mixstyle.cache.music.stem_folders import MOST_APART_S, probe_stems
from mixstyle.cache.music.stems_among_music import is_stem_folder
from mixstyle.cache.music.writer import AudioForm, Samples
from mixstyle.cache.storage.writable import check_file, check_folder
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.matching.desk import Strip
from mixstyle.pipeline.matching.profile import measure_profile
from mixstyle.pipeline.matching.render import strip_levels
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.outputs import write_or_keep
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.common.songs_left_out import LeftOut, each_song
from mixstyle.stages.separate.cutting import cutting_rule
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import encoder_file
from mixstyle.stages.songs.cached_stems import cached_stems
from mixstyle.stages.songs.clips import SongClips, SongReader, given_stems
from mixstyle.stages.songs.match.metric import metric_of_file
from mixstyle.stages.songs.match.png_page import draw_page
from mixstyle.stages.songs.match.render import RenderedSong, Targets, render_song
from mixstyle.stages.songs.match.song_match import SongMatch, check_asked, make_match, measured_as_json
from mixstyle.stages.songs.match.text import print_match
from mixstyle.stages.songs.names import distinct_names, page_names, refuse_clashes
from mixstyle.stages.songs.song_arguments import check_song, given_songs
from mixstyle.stages.songs.whole_song import WholeSong


@dataclass(frozen=True)
class MatchOutputs:
    """What `match` writes. song: ends in .wav or .flac. chain: JSON. png: a page. stems: a folder for the processed
    stems. ab: a folder for before and after, equally loud. samples: `24` bits or `float`."""

    song: Path
    chain: Path | None = None
    png: Path | None = None
    stems: Path | None = None
    ab: Path | None = None
    samples: Samples = "24"

    @property
    def targets(self) -> Targets:
        return Targets(self.song, AudioForm.of(self.song, self.samples), self.stems, self.ab)

    def check(self, songs: Sequence[Path]) -> None:
        """Raises MixstyleError for endings (bad-option), for inputs that would be overwritten (bad-option), and for
        what cannot be written (cannot-write)."""
        if self.png is not None and self.png.suffix.lower() != ".png":
            raise MixstyleError(f"{self.png}: should end in .png", code="bad-option")
        audio = self.targets.all()
        for path in (self.song, self.chain, self.png):
            if path is not None:
                check_file(path)
        for folder in (self.stems, self.ab):
            if folder is not None:
                check_folder(folder)
        refuse_clashes([self.chain, self.png, *audio], [*songs, *_files_of(songs)])


def match(
    settings: Settings,
    song: Path | None,
    references: Sequence[Path],
    outputs: MatchOutputs,
    *,
    stems: Path | None = None,
    amount: float = 1.0,
    keep: Sequence[str] = (),
    search: bool = False,
) -> tuple[SongMatch, RenderedSong]:
    """Brings a song to the mix of a reference, or to the mean of several; writes it, and prints what was changed.

    song: a file, or a folder of stems. stems: such a folder, taken instead of separating the song. search: looks for
    effects too, by the descriptors that the shipped encoder (or `embed.encoder`) whitens. Raises MixstyleError
    for what cannot be read or written, before any work where that shows.
    """
    check_asked(amount, keep)
    if song is None and stems is None:
        raise MixstyleError("nothing to match: give a song, or a folder of stems with --stems", code="bad-option")
    if stems is not None:
        given_stems(stems)
    mine = stems if stems is not None else song
    if mine is None:
        raise ValueError("looked at above")
    for path in (mine, *references):
        check_song(path)
    if song is not None and stems is not None:
        _check_same_song(song, stems)
    outputs.check([path for path in (song, mine, *references) if path is not None])
    whole = WholeSong(mine)
    metric = metric_of_file(encoder_file(settings)) if search else None
    separator = _separator(settings, [mine, *references])
    clips = _clips("match", settings, separator, [mine, *references], whole)
    left_out = LeftOut("match")
    for path, one in zip([mine, *references], clips, strict=True):
        left_out.note(path, one.note)
    names = distinct_names([song or mine, *references])
    clips = [replace(one, name=name) for one, name in zip(clips, names, strict=True)]
    matched = make_match(whole, clips[0], clips[1:], separator, settings.separate, amount, keep, metric)
    rendered = matched.render(outputs.targets)
    _finish(matched, rendered, outputs)
    return matched, rendered


def apply(settings: Settings, chain_path: Path, songs: Sequence[Path], output: Path, samples: Samples = "24") -> int:
    """Puts a chain on songs; how many. output: a file for one song, else a folder.
    A name with an ending is a file's, except that of a folder which is there already.

    songs: files, folders of stems, or folders of music. A stem that a song has not stays as it is, and so do pan and
    width of a song in mono. Songs that cannot be used are told and left out. Raises MixstyleError as `match` does, and
    for songs that were left out, once all others are written.
    """
    chain = read_chain(chain_path)
    files = given_songs(songs)
    single = len(files) == 1 and output.suffix != "" and not output.is_dir()
    if len(files) > 1 and output.suffix.lower() in AUDIO_SUFFIXES_OF[LISTING_VERSION] and not output.is_dir():
        raise MixstyleError(
            f"{output}: the name of a file, and there are {len(files)} songs; give the name of a folder",
            code="bad-option",
        )
    paths = [output] if single else [output / name for name in page_names(distinct_names(files), ".wav")]
    outputs = [MatchOutputs(path, samples=samples) for path in paths]
    if single:
        outputs[0].check([*files, chain_path])
    else:
        check_folder(output)
        refuse_clashes(paths, [*files, *_files_of(files)])
    separator = _separator(settings, files)

    def write(song: Path, target: MatchOutputs, left_out: LeftOut) -> None:
        whole = WholeSong(song)
        clips = _clips("apply", settings, separator, [song], whole)[0]
        left_out.note(song, clips.note)
        strips, notes = fitting(chain, whole, clips)
        bus = chain.mix.without_stereo() if whole.look.mono else chain.mix
        goal = chain.level_db, chain.reference_lufs
        levels = strip_levels(strips, [clip.numpy() for clip in clips.stems])
        rendered = render_song(
            whole, separator, settings.separate, strips, *goal, target.targets, levels, bus, command="apply"
        )
        say("; ".join((f"apply: wrote {target.song}: {rendered.after}", *notes)))

    return len(each_song("apply", files, outputs, write))


def fitting(chain: MatchChain, song: WholeSong, clips: SongClips) -> tuple[tuple[Strip, ...], list[str]]:
    """A chain's strips for a song: of stems that it has, and without pan and width where it is mono; and why not."""
    profile = measure_profile(clips.stems)
    strips, notes = [], []
    for stem, strip, present in zip(STEMS, chain.strips, profile.present, strict=True):
        if strip.changes and not present:
            notes.append(f"{stem}: the song has none, so it is left unchanged")
            strip = Strip()
        strips.append(strip)
    if song.look.mono and any(strip != strip.without_stereo() for strip in strips):
        notes.append("the song is mono: pan and width stay as they are, and it gets no reverb")
        strips = [strip.without_stereo() for strip in strips]
    return tuple(strips), notes


def _separator(settings: Settings, songs: Sequence[Path]) -> Separator | None:
    """The configured separator; None where all songs are folders of stems."""
    if all(is_stem_folder(song.resolve()) for song in songs):
        return None
    separator = configured_separator(settings.separate, resolve_device(settings.separate.device))
    if separator is None:
        raise MixstyleError(
            "separate.input=stems: nothing is separated; give folders of stems, or --set separate.input=mixtures",
            code="bad-option",
        )
    return separator


def _check_same_song(song: Path, stems: Path) -> None:
    """Raises MixstyleError (bad-option) for stems that are longer or shorter than the song, and for a song that cannot
    be read (not-found, no-music)."""
    check_song(song)
    told = {path: _duration_s(path) for path in (song, stems)}
    if abs(told[song] - told[stems]) > MOST_APART_S:
        raise MixstyleError(
            f"{song} lasts {told[song]:.2f} s, and its stems in {stems} {told[stems]:.2f} s; "
            f"if they are the song's all the same, leave out {song}: the mix is the sum of the stems",
            code="bad-option",
        )


def _duration_s(song: Path) -> float:
    """Of a file or a folder of stems, as its header says. Raises MixstyleError (no-music)."""
    try:
        return (probe_stems(given_stems(song)) if song.is_dir() else probe(song)).duration_s
    except UnreadableMusic as error:
        raise MixstyleError(f"{song}: {error}", code="no-music") from error


def _clips(
    command: str, settings: Settings, separator: Separator | None, songs: Sequence[Path], whole: WholeSong
) -> list[SongClips]:
    """Clips of songs with the whole songs' loudness, and a look at all of the one that is to be changed.

    Raises MixstyleError (no-music) with the reason.
    """
    chosen = settings.separate
    cached = cached_stems(settings, separator, cutting_rule(chosen)) if separator is not None else None
    reader = SongReader(chosen, separator, measure=True, cached=cached)
    found: list[SongClips] = []
    with progress(f"{command}: reading", len(songs), "songs", brief=True) as bar:
        for song, clips in zip(songs, reader.read(songs, max(1, min(chosen.workers, len(songs)))), strict=True):
            if isinstance(clips, UnreadableMusic):
                raise MixstyleError(f"{song}: {clips}", code="no-music")
            found.append(clips)
            if len(found) == len(songs):
                _ = whole.look
            bar.advance()
    return found


def _files_of(songs: Sequence[Path]) -> list[Path]:
    """The stems of those songs that are folders of stems."""
    folders = [song for song in songs if song.is_dir() and is_stem_folder(song.resolve())]
    return [file for folder in folders for file in given_stems(folder).values()]


def _finish(matched: SongMatch, rendered: RenderedSong, outputs: MatchOutputs) -> None:
    """Prints what was changed, and writes the chain and the page."""
    after = matched.after(rendered.gain.gain_db)
    chain = replace(matched.chain, measured=measured_as_json(matched, after, rendered))
    print_match(matched, after, rendered)
    if outputs.chain is not None:
        write_or_keep(outputs.chain, lambda path: write_chain(path, chain))
    if outputs.png is not None:
        write_or_keep(outputs.png, lambda path: draw_page(path, matched, after, rendered))
    for path in (outputs.song, outputs.chain, outputs.png, outputs.stems, outputs.ab):
        if path is not None:
            say(f"match: wrote {path}")
