"""Reads stems that exist already: a folder per song with vocals, bass, drums and other in wav, flac or mp3.

That is how MUSDB18-HQ, MSST and Demucs write them. A mixture beside them is passed over: here a mix is the sum of its
stems. Stems of six-stem separators are refused, since what guitar and piano hold is missing from `other`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from mixstyle.cache.music.content_hash import content_hash
from mixstyle.cache.music.formats import EXTRA_STEMS
from mixstyle.cache.music.listing import track_files
from mixstyle.cache.music.music_file import MusicInfo, UnreadableMusic
from mixstyle.cache.music.reader import (
    Blocks,
    Length,
    WindowAudio,
    decoded_length,
    frames_at_44100,
    probe,
    read_what_is_there,
)
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS

MOST_APART_S = 0.1
"""Stems whose lengths differ by no more are of one song. Resamplers round by a sample, and codecs pad by one or two of
their frames, 52 ms in MP3; what is longer has been cut, or is another song's."""


def stem_files(root: Path, path: str) -> dict[str, Path]:
    """The four files of a song's folder, in the order of `STEMS`.

    Raises UnreadableMusic naming the stems that are missing, and for the stems of six-stem separators.
    """
    found = track_files(root, path, "stems")
    missing = [stem for stem in STEMS if stem not in found]
    if missing:
        some = len(missing) < len(STEMS)
        helps = " (if the song has none, add a silent file as long as the others)" if some else ""
        raise UnreadableMusic(f"missing stem: {', '.join(missing)}{helps}")
    extra = [stem for stem in EXTRA_STEMS if stem in found]
    if extra:
        raise UnreadableMusic(f"extra stem: {', '.join(extra)}, so that the four stems are not all of the mix")
    return {stem: found[stem] for stem in STEMS}


def probe_stems(files: Mapping[str, Path]) -> MusicInfo:
    """What the header of the shortest stem says: no frame beyond it is read of any.

    Raises UnreadableMusic, naming the stem, for one that cannot be read, and where lengths differ by more than
    MOST_APART_S.
    """
    infos = {}
    for stem, file in files.items():
        with _about(stem):
            infos[stem] = probe(file)
    order = sorted(infos, key=lambda stem: frames_at_44100(infos[stem]))
    shortest, longest = order[0], order[-1]
    if frames_at_44100(infos[longest]) - frames_at_44100(infos[shortest]) > MOST_APART_S * SAMPLE_RATE:
        told = ", ".join(f"{stem} {infos[stem].duration_s:.3f} s" for stem in (shortest, longest))
        raise UnreadableMusic(f"unequal stems: {told}")
    return infos[shortest]


def read_stem_windows(files: Mapping[str, Path], windows: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Windows (frames at 44.1 kHz, half-open) of all four stems: [4, 2, stop - start] float32 each.

    Raises UnreadableMusic, naming the stem, for one that cannot be read or holds less than its header says.
    """
    found = read_stems_there(files, windows)
    short = next((window for window in found if window.reason), None)
    if short is not None:
        raise UnreadableMusic(short.reason)
    return [window.audio for window in found]


def read_stems_there(files: Mapping[str, Path], windows: Sequence[tuple[int, int]]) -> list[WindowAudio]:
    """As `read_stem_windows`, of stems that may hold less: there is as much of a window as of its shortest stem."""
    stems: list[list[WindowAudio]] = []
    for stem, file in files.items():
        with _about(stem):
            found = read_what_is_there(file, windows)
        stems.append([replace(part, reason=_named(stem, part.reason)) for part in found])
    windows_of_all = []
    for parts in zip(*stems, strict=True):
        shortest = min(parts, key=lambda part: part.there)
        audio = np.stack([part.audio for part in parts])
        audio[..., shortest.there :] = 0
        windows_of_all.append(WindowAudio(audio, shortest.there, shortest.reason))
    return windows_of_all


def decoded_length_of_stems(files: Mapping[str, Path]) -> Length:
    """How long the shortest of a song's stems is as it can be decoded, and what the first that lacks something lacks.

    Raises UnreadableMusic, naming the stem, for one that cannot be read.
    """
    lengths = {}
    for stem, file in files.items():
        with _about(stem):
            lengths[stem] = decoded_length(file)
    lacks = next((_named(stem, length.lacks) for stem, length in lengths.items() if length.lacks), "")
    return replace(min(lengths.values(), key=lambda length: length.duration_s), lacks=lacks)


class StemBlocks:
    """All of four stems, as far as the shortest goes, block by block: [4, 2, n] each.

    reason: after the last one, why it is less than the headers say, or empty.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._blocks = {stem: Blocks(file) for stem, file in files.items()}
        self.reason = ""

    def __iter__(self) -> Iterator[np.ndarray]:
        readers = {stem: iter(blocks) for stem, blocks in self._blocks.items()}
        while True:
            parts = []
            for stem, blocks in readers.items():
                with _about(stem):
                    parts.append(next(blocks, np.empty((2, 0), np.float32)))
            frames = min(part.shape[1] for part in parts)
            if frames:
                yield np.stack([part[:, :frames] for part in parts])
            if frames < max(part.shape[1] for part in parts) or not frames:
                told = {stem: blocks.reason for stem, blocks in self._blocks.items() if blocks.reason}
                self.reason = next((_named(stem, reason) for stem, reason in told.items()), "")
                return


class MixBlocks:
    """All of the sum of four stems, as far as the shortest goes, block by block: [2, n] each.

    reason: after the last one, why it is less than the headers say, or empty.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._stems = StemBlocks(files)

    @property
    def reason(self) -> str:
        return self._stems.reason

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._stems:
            yield block.sum(axis=0)


def hash_stems(files: Mapping[str, Path]) -> str:
    """32 hex digits of the four stems' audio."""
    return hashlib.sha256(" ".join(content_hash(file) for file in files.values()).encode()).hexdigest()[:32]


def _named(stem: str, reason: str) -> str:
    """A reason with the stem after its kind; empty where it is."""
    kind, _, detail = reason.partition(": ")
    return f"{kind}: {stem}: {detail}" if reason else ""


@contextmanager
def _about(stem: str) -> Iterator[None]:
    """Has a reason told inside name the stem."""
    try:
        yield
    except UnreadableMusic as error:
        raise UnreadableMusic(_named(stem, str(error))) from error
