"""Runs a song through strips, block by block: any length, tails kept, and no delay.

What comes out is the mix, and for each stem that is changed what the change adds to it. So what the stems do not sum to
(a separator leaves some) stays in as it was, and where nothing is set the mix comes out to the last bit.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.matching.desk import Filter, Strip
from mixstyle.pipeline.matching.inserts import InsertLevel, InsertRunner, insert_levels

TAIL_BLOCK = 4410
MOST_TAIL_BLOCKS = 150
"""15 s; the slowest filter of a desk is below -200 dB by then, and the longest reverb below -150 dB."""
TAIL_FLOOR = 1e-5
"""-100 dBFS: where a tail ends."""

Floats = NDArray[np.float64]
Levels = Sequence[Sequence[InsertLevel]]
"""For each stem the levels of its effects."""


def strip_levels(strips: Sequence[Strip], clips: Sequence[NDArray[np.floating]]) -> list[tuple[InsertLevel, ...]]:
    """The levels of strips' effects on a song of which clips [S, 2, T] are known."""
    return [insert_levels(strip.inserts, [clip[place] for clip in clips]) for place, strip in enumerate(strips)]


class StripRunner:
    """One strip with the state of its effects and filters. Takes blocks [2, n] in order. levels: of its effects."""

    def __init__(self, strip: Strip, sample_rate: int = SAMPLE_RATE, levels: Sequence[InsertLevel] = ()) -> None:
        self.strip = strip
        self._inserts = InsertRunner(strip.inserts, levels, sample_rate)
        side_db, shelves = strip.side_filters
        self._equaliser = _Cascade(strip.filters, 2, sample_rate)
        self._pan = np.array(strip.pan_gains)[:, None]
        self._side_gain = 10 ** (side_db / 20)
        self._side = _Cascade(shelves, 1, sample_rate)
        self._fader = 10 ** (strip.gain_db / 20)

    def run(self, block: NDArray[np.floating]) -> Floats:
        """The block as the strip makes it, float64."""
        audio = np.asarray(self._inserts.run(block), np.float64)
        audio = self._equaliser.run(audio) * self._pan
        if any(self.strip.side_db) or self.strip.side_equaliser:
            mid, side = (audio[0] + audio[1]) / 2, (audio[0] - audio[1]) / 2
            side = self._side.run(side[None])[0] * self._side_gain
            audio = np.stack([mid + side, mid - side])
        return audio * self._fader

    @property
    def rings(self) -> bool:
        """Whether something comes out after the last sample went in."""
        return bool(self.strip.inserts or self.strip.filters or self.strip.side_filters[1])


class SongRunner:
    """A strip for each stem, for one song from its beginning to its end. levels: of their effects, if any. mix: a strip
    on the sum, which is linear: without effects. Stems run through it too, so that they still add up; with
    only_mix they do not, which takes a fifth of the time."""

    def __init__(
        self,
        strips: Sequence[Strip],
        sample_rate: int = SAMPLE_RATE,
        levels: Levels | None = None,
        mix: Strip | None = None,
        only_mix: bool = False,
    ) -> None:
        self._runners = {
            place: StripRunner(strip, sample_rate, levels[place] if levels is not None else ())
            for place, strip in enumerate(strips)
            if strip.changes
        }
        self._stems = len(strips)
        through = 1 if only_mix else 1 + len(strips)
        self._bus = [StripRunner(mix, sample_rate) for _ in range(through)] if mix and mix.changes else []

    def run(self, mix: NDArray[np.float32], stems: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        """The next block's mix [2, n] and stems [S, 2, n], changed; float32."""
        if not self._runners and not self._bus:
            return mix, stems
        out, changed = mix.astype(np.float64), np.array(stems)
        for place, runner in self._runners.items():
            made = runner.run(stems[place])
            out += made - stems[place]
            changed[place] = made
        if self._bus:
            out = self._bus[0].run(out)
        if len(self._bus) > 1:
            changed = np.stack([runner.run(stem) for runner, stem in zip(self._bus[1:], changed, strict=True)])
        return out.astype(np.float32), changed.astype(np.float32)

    def tail(self) -> Iterator[tuple[NDArray, NDArray]]:
        """What the filters still give after the end, until it is below -100 dBFS: mixes and stems as `run` has them."""
        if not any(runner.rings for runner in (*self._runners.values(), *self._bus)):
            return
        silence = np.zeros((self._stems, 2, TAIL_BLOCK), np.float32)
        for _ in range(MOST_TAIL_BLOCKS):
            mix, stems = self.run(silence[0], silence)
            if max(np.abs(stems).max(), np.abs(mix).max()) < TAIL_FLOOR:
                return
            yield mix, stems


class _Cascade:
    """Filters in a row on C channels."""

    def __init__(self, filters: Sequence[Filter], channels: int, sample_rate: int) -> None:
        self._sections = np.array([one.section(sample_rate) for one in filters])
        self._state = np.zeros((len(filters), channels, 2))

    @cached_property
    def _sosfilt(self):
        from scipy.signal import sosfilt  # takes seconds, so where it is needed

        return sosfilt

    def run(self, audio: Floats) -> Floats:
        if not len(self._sections):
            return audio
        out, self._state = self._sosfilt(self._sections, audio, axis=-1, zi=self._state)
        return out
