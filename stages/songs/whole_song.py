"""A whole song as it streams by: its mix and its stems, block by block, whatever its length.

It is read twice: a look at all of it (length, loudness, true peak, clipping, whether it is mono), and then the blocks
with their stems, which are separated on the way, or given. Blocks are at 44.1 kHz.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixstyle.cache.music.reader import BLOCK_FRAMES, Blocks, UnreadableMusic
from mixstyle.cache.music.stem_folders import StemBlocks, probe_stems
from mixstyle.cache.storage.urls import not_there
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.mono import FILE_DB, is_mono
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness, SongMeter
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.pipeline.separation.streaming import Level, separate_blocks
from mixstyle.stages.common.progress import tell
from mixstyle.stages.separate.tuned_streams import choose_streams, start_streams
from mixstyle.stages.settings.separate import SeparateSettings
from mixstyle.stages.songs.clips import given_stems

CLIPPED_RUN = 3
"""So many samples in a row at the very same highest level were cut off: music does not hold a level."""
CLIPPED_LEVEL = 0.5
"""Below half of full scale nobody clips on purpose or by mistake."""


@dataclass(frozen=True)
class Look:
    """What a song is as a whole. frames: at 44.1 kHz. clipped: samples in runs at the song's highest level. note: what
    the file holds less than its header says, or empty."""

    frames: int
    loudness: SongLoudness
    level: Level
    mono: bool
    clipped: int
    note: str

    @property
    def duration_s(self) -> float:
        return self.frames / SAMPLE_RATE


class WholeSong:
    """A file, a folder of stems, a mix [2, T], or stems [4, 2, T] at 44.1 kHz. name: for messages."""

    def __init__(self, music: Path | Tensor, name: str = "") -> None:
        self.music, self.name = music, name or (str(music) if isinstance(music, Path) else "music")
        self.given = music.ndim == 3 if isinstance(music, Tensor) else music.is_dir()
        self._files = given_stems(music) if isinstance(music, Path) and self.given else None
        if self._files is not None:
            self._told(lambda: probe_stems(self._files or {}))
        if isinstance(music, Path) and not self.given and not music.exists():
            raise not_there(music)

    @cached_property
    def look(self) -> Look:
        """Reads all of it. Raises MixstyleError (no-music) with the reason where it cannot be read."""
        source = self._source()
        meter, counts = SongMeter(SAMPLE_RATE), _Counts()

        def read() -> None:
            for block in source:
                mix = block.sum(0) if block.ndim == 3 else block
                meter.add(mix)
                counts.add(mix)
                tell("look")

        self._told(read)
        if counts.frames == 0:
            raise MixstyleError(f"{self.name}: it holds no samples", code="no-music")
        note = source.reason if isinstance(source, Blocks | StemBlocks) else ""
        return Look(counts.frames, meter.result(), counts.level(), counts.is_mono(), counts.clipped, note)

    def blocks(self, separator: Separator | None, options: SeparateSettings) -> Iterator[tuple[Tensor, Tensor]]:
        """The mix [2, n] and the stems [4, 2, n], block by block. separator: None where stems are given.

        The mix of given stems is their sum. Raises MixstyleError as `look` does, and for a separator that fails.
        """
        if self.given:
            for block in self._source():
                stems = torch.from_numpy(block)
                yield stems.sum(0), stems
            return
        if separator is None:
            raise ValueError("a mixture needs a separator")
        look = self.look
        streams = choose_streams(options, separator, separator.device, separator.device.type != "cpu")
        mix = (torch.from_numpy(np.ascontiguousarray(block)) for block in self._source())
        with start_streams(separator, streams) as executor:
            try:
                yield from separate_blocks(separator, executor, mix, look.frames, look.level)
            except UnreadableMusic as error:
                raise MixstyleError(f"{self.name}: {error}", code="no-music") from error
            except MixstyleError as error:
                raise MixstyleError(f"{self.name}: {error.message}", code=error.code, remedy=error.remedy) from error

    def mix_blocks(self) -> Iterator[np.ndarray]:
        """The mix alone, [2, n] each. Raises as `look` does."""
        try:
            for block in self._source():
                yield block.sum(0) if block.ndim == 3 else block
        except UnreadableMusic as error:
            raise MixstyleError(f"{self.name}: {error}", code="no-music") from error

    def _source(self) -> Iterable[np.ndarray]:
        if isinstance(self.music, Tensor):
            audio = self.music.detach().to("cpu", torch.float32).numpy()
            return [
                np.ascontiguousarray(audio[..., start : start + BLOCK_FRAMES])
                for start in range(0, audio.shape[-1], BLOCK_FRAMES)
            ]
        return Blocks(self.music) if self._files is None else StemBlocks(self._files)

    def _told(self, read: Callable[[], object]) -> None:
        """Has a reason told with the song's name."""
        try:
            read()
        except UnreadableMusic as error:
            raise MixstyleError(f"{self.name}: {error}", code="no-music") from error


class _Counts:
    """What is counted over a song's blocks [2, n]."""

    def __init__(self) -> None:
        self.frames = self.clipped = 0
        self._sum = self._squares = self._side = 0.0
        self._top = 0.0

    def add(self, mix: np.ndarray) -> None:
        mono = mix.mean(0, dtype=np.float64)
        side = (mix[0] - mix[1]).astype(np.float64) / 2
        self.frames += mix.shape[1]
        self._sum += float(mono.sum())
        self._squares += float(mono @ mono)
        self._side += float(side @ side)
        self._count_clipped(np.abs(mix))

    def level(self) -> Level:
        mean = self._sum / max(self.frames, 1)
        return Level(mean, max(self._squares / max(self.frames, 1) - mean**2, 0.0) ** 0.5)

    def is_mono(self) -> bool:
        return is_mono(self._squares, self._side, FILE_DB)

    def _count_clipped(self, level: np.ndarray) -> None:
        top = float(level.max(initial=0.0))
        if top > self._top:
            self._top, self.clipped = top, 0
        if self._top < CLIPPED_LEVEL or top < self._top:
            return
        for channel in level:
            at_top = np.concatenate([[False], channel >= self._top, [False]])
            edges = np.flatnonzero(at_top[1:] != at_top[:-1])
            runs = edges[1::2] - edges[::2]
            self.clipped += int(runs[runs >= CLIPPED_RUN].sum())
