"""Reads stems that exist already: a folder per song with vocals, bass, drums and other in wav, flac or mp3.

That is how MUSDB18-HQ, MSST and Demucs write them. A mixture beside them is passed over: here a mix is the sum of its
stems. Stems of six-stem separators are refused, since what guitar and piano hold is missing from `other`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mixstyle.cache.music.content_hash import content_hash
from mixstyle.cache.music.listing import EXTRA_STEMS, track_files
from mixstyle.cache.music.reader import MusicInfo, UnreadableMusic, frames_at_44100, probe, read_blocks, read_windows
from mixstyle.pipeline.core.stems import STEMS


def stem_files(root: Path, path: str) -> dict[str, Path]:
    """The four files of a song's folder, in the order of `STEMS`.

    Raises UnreadableMusic naming the stems that are missing, and for the stems of six-stem separators.
    """
    found = track_files(root, path, "stems")
    missing = [stem for stem in STEMS if stem not in found]
    if missing:
        raise UnreadableMusic(f"missing stem: {', '.join(missing)}")
    extra = [stem for stem in EXTRA_STEMS if stem in found]
    if extra:
        raise UnreadableMusic(f"extra stem: {', '.join(extra)}, so that the four stems are not all of the mix")
    return {stem: found[stem] for stem in STEMS}


def probe_stems(files: Mapping[str, Path]) -> MusicInfo:
    """What the first stem's header says, once all four are found equally long.

    Raises UnreadableMusic, naming the stem, for one that cannot be read or that is longer or shorter.
    """
    infos = {}
    for stem, file in files.items():
        with _about(stem):
            infos[stem] = probe(file)
    first, *rest = infos
    frames = frames_at_44100(infos[first])
    for stem in rest:
        if frames_at_44100(infos[stem]) != frames:
            raise UnreadableMusic(
                f"unequal stems: {first} is {infos[first].duration_s:.3f} s long, {stem} {infos[stem].duration_s:.3f} s"
            )
    return infos[first]


def read_stem_windows(files: Mapping[str, Path], windows: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Windows (frames at 44.1 kHz, half-open) of all four stems: [4, 2, stop - start] float32 each."""
    stems = []
    for stem, file in files.items():
        with _about(stem):
            stems.append(read_windows(file, windows))
    return [np.stack(parts) for parts in zip(*stems, strict=True)]


def read_mix_blocks(files: Mapping[str, Path]) -> Iterator[np.ndarray]:
    """All of the sum of four stems that are equally long, block by block: [2, n] float32 each."""
    readers = {stem: read_blocks(file) for stem, file in files.items()}
    while True:
        parts = []
        for stem, blocks in readers.items():
            with _about(stem):
                parts.append(next(blocks, None))
        whole = [part for part in parts if part is not None]
        if len(whole) < len(parts):
            return
        yield np.sum(whole, axis=0)


def hash_stems(files: Mapping[str, Path]) -> str:
    """32 hex digits of the four stems' audio."""
    return hashlib.sha256(" ".join(content_hash(file) for file in files.values()).encode()).hexdigest()[:32]


@contextmanager
def _about(stem: str) -> Iterator[None]:
    """Has a reason told inside name the stem."""
    try:
        yield
    except UnreadableMusic as error:
        kind, _, detail = str(error).partition(": ")
        raise UnreadableMusic(f"{kind}: {stem}: {detail}") from error
