"""A whole song through a chain: rendered to a temporary file and measured, then written at its level.

Songs stream through twice, so that memory does not grow with their length. The outputs get their names together with
nothing half done: each is written under a temporary name, read again, and renamed.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.music.reader import BLOCK_FRAMES
from mixstyle.cache.music.writer import AudioForm, audio_writer
from mixstyle.cache.storage.writable import make_folder, refusals_told
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness, SongMeter
from mixstyle.pipeline.matching.desk import Strip
from mixstyle.pipeline.matching.level import OutputGain, output_gain
from mixstyle.pipeline.matching.render import Levels, SongRunner
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.progress import progress
from mixstyle.stages.settings.separate import SeparateSettings
from mixstyle.stages.songs.whole_song import WholeSong

REST = "rest"
"""What the stems do not sum to, as a file beside them."""


@dataclass(frozen=True, repr=False)
class RenderedSong:
    """before, after: loudness of the song as it was and as it was written. gain: on all of it, at the end."""

    before: SongLoudness
    after: SongLoudness
    gain: OutputGain

    def __repr__(self) -> str:
        return f"RenderedSong({self.before.loudness_lufs:.1f} LUFS before, {self.after})"


@dataclass(frozen=True)
class Targets:
    """What is written. song: ends in .wav or .flac. stems: a folder for the processed stems and the rest. ab: a folder
    for before.wav and after.wav, equally loud and equally long. samples: of all of them."""

    song: Path
    form: AudioForm
    stems: Path | None = None
    ab: Path | None = None

    def stem_paths(self) -> list[Path]:
        """vocals, bass, drums, other and the rest; none where they are not asked for."""
        if self.stems is None:
            return []
        return [self.stems / f"{name}.{self.form.format}" for name in (*STEMS, REST)]

    def ab_paths(self) -> list[Path]:
        if self.ab is None:
            return []
        return [self.ab / f"{name}.{self.form.format}" for name in ("before", "after")]

    def all(self) -> list[Path]:
        return [self.song, *self.stem_paths(), *self.ab_paths()]


def render_song(
    song: WholeSong,
    separator: Separator | None,
    options: SeparateSettings,
    strips: Sequence[Strip],
    level_db: float,
    reference_lufs: float | None,
    targets: Targets,
    levels: Levels | None = None,
    mix_strip: Strip | None = None,
    *,
    command: str = "match",
) -> RenderedSong:
    """Runs a song through strips and writes it. levels: of the strips' effects on this song, if any. mix_strip: on the
    sum, if any. command: whose work it is, for its progress. Raises
    MixstyleError for a song that cannot be read, and (cannot-write) where the system refuses."""
    make_folder(targets.song.absolute().parent)
    with refusals_told(targets.song), ExitStack() as stack:
        count = 1 + (len(STEMS) + 1 if targets.stems else 0)
        spools = [stack.enter_context(_Spool(targets.song.absolute().parent)) for _ in range(count)]
        meter = SongMeter(SAMPLE_RATE, fine=True)
        runner = SongRunner(strips, levels=levels, mix=mix_strip, only_mix=targets.stems is None)
        separate = targets.stems is not None or any(strip.changes for strip in strips)
        for mix, stems in _made(song, separator, options, runner, separate, command):
            meter.add(mix)
            spools[0].add(mix)
            for spool, part in zip(spools[1:], (*stems, mix - stems.sum(0)), strict=False):
                spool.add(part)
        before, made = song.look.loudness, meter.result()
        gain = output_gain(before, made, level_db, reference_lufs)
        after = SongMeter(SAMPLE_RATE, fine=True)
        with progress(f"{command}: writing", sum(spool.frames for spool in spools), "frames", brief=True) as bar:
            for block in _write(spools[0], targets.song, targets.form, gain.gain_db):
                after.add(block)
                bar.advance(block.shape[1])
            for spool, path in zip(spools[1:], targets.stem_paths(), strict=True):
                for block in _write(spool, path, targets.form, gain.gain_db):
                    bar.advance(block.shape[1])
        rendered = RenderedSong(before, after.result(), gain)
        if targets.ab is not None:
            _write_ab(song, spools[0], rendered, targets)
    return rendered


def _made(
    song: WholeSong,
    separator: Separator | None,
    options: SeparateSettings,
    runner: SongRunner,
    separate: bool,
    command: str,
) -> Iterator[tuple[NDArray, NDArray]]:
    """Mix and stems after the strips, tail included. separate: whether stems are needed; else they are zeros."""
    if separate:
        blocks = ((mix.numpy(), stems.numpy()) for mix, stems in song.blocks(separator, options))
    else:
        blocks = ((mix, np.zeros((len(STEMS), *mix.shape), np.float32)) for mix in song.mix_blocks())
    with progress(command, round(song.look.duration_s), "s", shown=song.look.duration_s > 1) as bar:
        done = frames = 0
        for mix, stems in blocks:
            yield runner.run(mix, stems)
            frames += mix.shape[1]
            bar.advance(round(frames / SAMPLE_RATE) - done)
            done = round(frames / SAMPLE_RATE)
        yield from runner.tail()


def _write(spool: "_Spool", path: Path, form: AudioForm, gain_db: float) -> Iterator[NDArray]:
    """Writes what a spool holds with a gain, and yields its blocks."""
    factor = np.float32(10 ** (gain_db / 20))
    with audio_writer(path, spool.frames, form) as writer:
        for block in spool.blocks():
            louder = block * factor if gain_db else block
            writer.write(louder)
            yield louder


def _write_ab(song: WholeSong, spool: "_Spool", rendered: RenderedSong, targets: Targets) -> None:
    """Before and after at the loudness of the quieter one, from the same first sample to the same last."""
    level = min(rendered.before.loudness_lufs, rendered.after.loudness_lufs)
    before, after = targets.ab_paths()
    with _Spool(targets.song.absolute().parent) as original:
        for block in song.mix_blocks():
            original.add(block)
        original.add(np.zeros((2, spool.frames - original.frames), np.float32))
        for _ in _write(original, before, targets.form, level - rendered.before.loudness_lufs):
            pass
    for _ in _write(spool, after, targets.form, rendered.gain.gain_db + level - rendered.after.loudness_lufs):
        pass


class _Spool:
    """Stereo samples in a temporary file without a name, float32. frames: so far."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self.frames = 0

    def add(self, block: NDArray[np.floating]) -> None:
        self._file.write(np.ascontiguousarray(block.T, np.float32).tobytes())
        self.frames += block.shape[1]

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All that was added, from the beginning: [2, n] each."""
        self._file.seek(0)
        while data := self._file.read(BLOCK_FRAMES * 8):
            yield np.frombuffer(data, np.float32).reshape(-1, 2).T

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
