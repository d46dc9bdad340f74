"""Loudness of a whole song, measured as it streams by: integrated loudness, loudness range and true peak.

- Integrated loudness: ITU-R BS.1770-4, as `mixstyle.pipeline.descriptors.loudness` has it of whole signals.
- Loudness range: EBU Tech 3342 (2016), from loudness over 3 s at every 100 ms.
- True peak: ITU-R BS.1770-4 annex 2, the largest sample after oversampling four times. Its 48 taps read
  clipped music a few tenths of a dB too low; a meter that is `fine` oversamples eight times by longer filters.

In NumPy alone: processes that decode music measure it there, and torch, SciPy or pyloudnorm would take seconds to load.
The K-weighting is run block by block in state space, as there, in float64.
"""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.descriptors.k_weighting import (
    BLOCK_STEPS,
    LOUDNESS_FLOOR_LUFS,
    OFFSET_DB,
    RELATIVE_GATE_LU,
    k_weighting_sections,
    step_samples,
)

Floats = NDArray[np.float64]

SHORT_TERM_STEPS = 30
"""3 s, in steps of 100 ms (Tech 3342)."""
TRAILING_STEPS = 15
"""1.5 s of silence that Tech 3342 lets follow a signal, so that its end counts in as many windows as its middle."""
RANGE_GATE_LU = -20.0
RANGE_PERCENTILES = (10, 95)
PEAK_FLOOR_DBTP = -200.0
"""What digital silence reads."""
_RUN = 64
"""Samples that are looked at together: a run that cannot hold a new peak is not oversampled."""
_RUNS_AT_ONCE = 128
_ORDER, _BLOCK = 4, 64
_DOUBLINGS = 30
"""2^30 blocks of 64 samples: more than a day."""

# BS.1770-4 annex 2: an interpolator of 48 taps in four phases, newest sample last; the other two phases are these two
# backwards.
_PHASES = np.array(
    [
        [
            0.001708984375, 0.010986328125, -0.0196533203125, 0.033203125, -0.0594482421875, 0.1373291015625,
            0.97216796875, -0.102294921875, 0.047607421875, -0.026611328125, 0.014892578125, -0.00830078125,
        ],
        [
            -0.0291748046875, 0.029296875, -0.0517578125, 0.089111328125, -0.16650390625, 0.465087890625,
            0.77978515625, -0.2003173828125, 0.1015625, -0.0582275390625, 0.0330810546875, -0.0189208984375,
        ],
    ]
)  # fmt: skip
INTERPOLATOR: Floats = np.concatenate([_PHASES, _PHASES[:, ::-1]])
FINE_PHASES, FINE_TAPS = 8, 32
_KAISER_BETA = 6.0
"""Of the fine interpolator's window: 63 dB of attenuation."""


@lru_cache(maxsize=1)
def fine_interpolator() -> Floats:
    """A sinc under a Kaiser window [FINE_PHASES, FINE_TAPS], newest sample last; the first phase gives the samples."""
    middle = FINE_TAPS // 2
    place = np.arange(FINE_TAPS) - (middle - 1) - np.arange(FINE_PHASES)[:, None] / FINE_PHASES
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(1 - (place / middle) ** 2, 0))) / np.i0(_KAISER_BETA)
    return np.sinc(place) * window


@dataclass(frozen=True)
class SongLoudness:
    """loudness_lufs: integrated; LOUDNESS_FLOOR_LUFS for silence. loudness_range_lu: NaN where nothing passes the
    gates. true_peak_dbtp: dB of full scale."""

    loudness_lufs: float
    loudness_range_lu: float
    true_peak_dbtp: float

    def __str__(self) -> str:
        """For people: `-14.2 LUFS, loudness range 6.1 LU, true peak -0.3 dBTP`."""
        between = "" if math.isnan(self.loudness_range_lu) else f", loudness range {self.loudness_range_lu:.1f} LU"
        return f"{self.loudness_lufs:.1f} LUFS{between}, true peak {round(self.true_peak_dbtp, 1) + 0.0:.1f} dBTP"

    def to_json(self) -> dict[str, float | None]:
        """By name, rounded to 0.001; None for NaN."""
        return {name: None if math.isnan(value) else round(value, 3) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SongLoudness | None":
        """Reads what `to_json` made, also from among other entries; None where it is not there."""
        values = {name: data.get(name) for name in ("loudness_lufs", "loudness_range_lu", "true_peak_dbtp")}
        if values["loudness_lufs"] is None or values["true_peak_dbtp"] is None:
            return None
        return cls(**{name: math.nan if value is None else float(value) for name, value in values.items()})


def measure_song(audio: NDArray[np.floating], sample_rate: int) -> SongLoudness:
    """The loudness of audio [C, T] that is held whole, C 1 or 2."""
    meter = SongMeter(sample_rate)
    meter.add(audio)
    return meter.result()


class SongMeter:
    """Takes a song block by block; what it keeps grows by one number for each 100 ms.

    fine: true peak by the longer interpolator. Raises ValueError for a rate that is no multiple of 10 Hz.
    """

    def __init__(self, sample_rate: int, *, fine: bool = False) -> None:
        self._interpolator = (fine_interpolator() if fine else INTERPOLATOR).astype(np.float32)
        self._most_gain = float(np.abs(self._interpolator).sum(1).max())
        self._taps = self._interpolator.shape[1]
        self._step = step_samples(sample_rate)
        self._filter = _block_filter(sample_rate)
        self._state: Floats | None = None
        self._steps: list[Floats] = []
        self._rest = np.zeros(0)
        self._tail = np.zeros((1, 0), np.float32)
        self._peak = 0.0

    def add(self, block: NDArray[np.floating]) -> None:
        """The next samples [C, n], C 1 or 2 and the same in all blocks."""
        if block.shape[-1] == 0:
            return
        self._add_peak(np.asarray(block, np.float32))
        self._add_power(np.asarray(block, np.float64))

    def result(self) -> SongLoudness:
        """What was measured so far."""
        power = np.concatenate([np.zeros(0), *self._steps])
        # as pyloudnorm counts: a last step counts where it is more than half there; to even at one half
        if round(len(power) + len(self._rest) / self._step) > len(power):
            power = np.append(power, self._rest.sum() / self._step)
        peak = max(self._peak, self._peak_of(np.pad(self._tail, ((0, 0), (0, self._taps - 1)))))
        peak_db = 20 * math.log10(peak) if peak > 0 else PEAK_FLOOR_DBTP
        return SongLoudness(_integrated(power), _loudness_range(power), max(peak_db, PEAK_FLOOR_DBTP))

    def _add_power(self, block: Floats) -> None:
        """Mean squares of K-weighted audio over 100 ms each, summed over channels (BS.1770-4 eq. 3)."""
        if self._state is None:
            self._state = np.zeros((len(block), _ORDER))
        weighted, self._state = self._filter.run(block, self._state)
        squares = np.concatenate([self._rest, np.einsum("ct,ct->t", weighted, weighted)])
        count = len(squares) // self._step
        self._steps.append(squares[: count * self._step].reshape(count, self._step).mean(1))
        self._rest = squares[count * self._step :]

    def _add_peak(self, block: NDArray[np.float32]) -> None:
        if self._tail.shape[1] == 0:
            self._tail = np.zeros((len(block), self._taps - 1), np.float32)
        joined = np.concatenate([self._tail, block], -1)
        self._peak = max(self._peak, self._peak_of(joined))
        self._tail = joined[:, -(self._taps - 1) :]

    def _peak_of(self, audio: NDArray[np.float32]) -> float:
        """The largest sample of audio [C, n] and of its interpolation, where that is above the peak there was."""
        level = np.abs(audio)
        peak = max(self._peak, float(level.max(initial=0.0)))
        places = audio.shape[1] - self._taps + 1  # where all taps have a sample
        if places <= 0:
            return peak
        runs = -(-places // _RUN)
        padded = np.pad(level.max(0), (0, (runs + 1) * _RUN - level.shape[1]))
        tops = padded.reshape(-1, _RUN).max(1)
        reach = np.maximum(tops[:runs], tops[1 : runs + 1])  # a run's taps end in the next one
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(audio, ((0, 0), (0, _RUN))), self._taps, -1)
        order = np.argsort(-reach, kind="stable")
        for first in range(0, runs, _RUNS_AT_ONCE):
            chosen = order[first : first + _RUNS_AT_ONCE]
            chosen = chosen[reach[chosen] * self._most_gain > peak]
            if len(chosen) == 0:
                break
            samples = (chosen[:, None] * _RUN + np.arange(_RUN)).ravel()
            found = windows[:, samples] @ self._interpolator.T
            peak = max(peak, float(np.abs(found).max()))
        return peak


def _integrated(power: Floats) -> float:
    """BS.1770-4 eq. 4 to 7, from the power of steps."""
    blocks = _moving_mean(power, BLOCK_STEPS)
    kept = blocks[blocks >= _power(LOUDNESS_FLOOR_LUFS)]
    if len(kept) == 0:
        return LOUDNESS_FLOOR_LUFS
    kept = kept[kept > kept.mean() * 10 ** (RELATIVE_GATE_LU / 10)]
    return OFFSET_DB + 10 * math.log10(kept.mean())


def _loudness_range(power: Floats) -> float:
    """Tech 3342: between the 10th and the 95th percentile of short-term loudness, both gates passed."""
    blocks = _moving_mean(np.concatenate([power, np.zeros(TRAILING_STEPS)]), SHORT_TERM_STEPS)
    kept = blocks[blocks >= _power(LOUDNESS_FLOOR_LUFS)]
    if len(kept) == 0:
        return math.nan
    kept = kept[kept >= kept.mean() * 10 ** (RANGE_GATE_LU / 10)]
    low, high = np.percentile(10 * np.log10(kept), RANGE_PERCENTILES)
    return float(high - low)


def _moving_mean(power: Floats, steps: int) -> Floats:
    if len(power) < steps:
        return np.zeros(0)
    return np.lib.stride_tricks.sliding_window_view(power, steps).mean(1)


def _power(loudness_lufs: float) -> float:
    return 10 ** ((loudness_lufs - OFFSET_DB) / 10)


@dataclass(frozen=True)
class _BlockFilter:
    """A filter in state space, s' = A s + B x and y = C s + D x, over blocks of _BLOCK samples.

    response: [BLOCK, BLOCK], inputs to outputs. from_state: [ORDER, BLOCK], the state at a block's start to outputs.
    to_state: [BLOCK, ORDER], inputs to what they add to the next state. powers: A to the power of BLOCK, 2 BLOCK, 4
    BLOCK and so on, transposed.
    """

    response: Floats
    from_state: Floats
    to_state: Floats
    powers: tuple[Floats, ...]
    A: Floats

    def run(self, audio: Floats, state: Floats) -> tuple[Floats, Floats]:
        """Outputs [C, T] of audio [C, T] from a state [C, ORDER], and the state after it."""
        samples = audio.shape[1]
        blocks = -(-samples // _BLOCK)
        x = np.pad(audio, ((0, 0), (0, blocks * _BLOCK - samples))).reshape(len(audio), blocks, _BLOCK)
        # states at the starts of all blocks: what came before is one more input, summed up by doubling
        states = np.concatenate([state[:, None], x @ self.to_state], 1)
        reach = 1
        for power in self.powers:
            if reach > blocks:
                break
            states[:, reach:] += states[:, :-reach] @ power
            reach *= 2
        y = x @ self.response + states[:, :-1] @ self.from_state
        return y.reshape(len(audio), -1)[:, :samples], self._after(
            x[:, -1], states[:, -2], samples - (blocks - 1) * _BLOCK
        )

    def _after(self, x: Floats, state: Floats, samples: int) -> Floats:
        """The state after the first samples of a block [C, BLOCK]."""
        # the inputs' effects, had the block ended with them
        own = x[:, :samples] @ self.to_state[_BLOCK - samples :]
        return own + state @ np.linalg.matrix_power(self.A, samples).T


@lru_cache(maxsize=8)
def _block_filter(sample_rate: int) -> _BlockFilter:
    (A1, B1, C1, D1), (A2, B2, C2, D2) = (_state_space(b, a) for b, a in k_weighting_sections(sample_rate))
    A = np.block([[A1, np.zeros((2, 2))], [np.outer(B2, C1), A2]])
    B, C, D = np.concatenate([B1, B2 * D1]), np.concatenate([D2 * C1, C2]), D2 * D1
    powers = [np.eye(_ORDER)]
    for _ in range(_BLOCK):
        powers.append(A @ powers[-1])
    impulse = np.array([D, *(C @ power @ B for power in powers[: _BLOCK - 1])])
    lag = np.arange(_BLOCK) - np.arange(_BLOCK)[:, None]
    doubled = [powers[_BLOCK]]
    while len(doubled) < _DOUBLINGS:
        doubled.append(doubled[-1] @ doubled[-1])
    return _BlockFilter(
        np.where(lag >= 0, impulse[np.abs(lag)], 0.0),
        np.stack([C @ power for power in powers[:_BLOCK]], 1),
        np.stack([power @ B for power in powers[_BLOCK - 1 :: -1]]),
        tuple(power.T for power in doubled),
        A,
    )


def _state_space(b: Floats, a: Floats) -> tuple[Floats, Floats, Floats, float]:
    """A section of second order (a[0] = 1) in transposed direct form II."""
    return np.array([[-a[1], 1.0], [-a[2], 0.0]]), b[1:] - a[1:] * b[0], np.array([1.0, 0.0]), float(b[0])
