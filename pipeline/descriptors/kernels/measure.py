"""What the descriptors are made of by `measure.c`, in one pass over a clip's stems, on processors with AVX2 or AVX-512.

torch makes and reads frames, spectra and K-weighted signals as whole tensors: memory is what it waits for. The kernel
takes a stem through in tiles that stay in the cache. It is built by `mixstyle.cache.storage.compiled` where a C
compiler is there; without it only the speed and the last bits of the results differ.
"""

import ctypes
from collections import deque
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.core.threads import run_each
from mixstyle.pipeline.descriptors.bands_and_floors import (
    ACTIVE_DB,
    CROSSOVER_HZ,
    FLATNESS_FLOOR_DB,
    FLATNESS_HZ,
    LOWEST_HZ,
    MASKING_LIMIT_DB,
    MASKING_TOP_HZ,
)
from mixstyle.pipeline.descriptors.group_masking import tile_sums
from mixstyle.pipeline.descriptors.k_weighting import k_weighting_filters, step_samples
from mixstyle.pipeline.descriptors.loudness import count_steps, gated_loudness
from mixstyle.pipeline.descriptors.measured import Measured, measure, nan_unless_finite
from mixstyle.pipeline.descriptors.spectrum import (
    COARSE_HOP,
    COARSE_WINDOW,
    DECIMATION,
    ERB_BANDS,
    FINE_HOP,
    FINE_WINDOW,
    MARGIN,
    band_edges,
    bin_shares,
    check_rate,
    decimator,
    erb_edges,
    hann,
    mean_square_per_bin,
)

Doubles = NDArray[np.float64]

SOURCE = Path(__file__).with_name("measure.c")
_ALWAYS = ("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-mavx2", "-mfma")
_AVX512 = ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512")
FLAGS = {"AVX2": _ALWAYS, "AVX512": (*_ALWAYS, *_AVX512)}
"""What the C compiler is told, beside making a shared library, by what torch calls the processor's instructions."""
VERSION = 1
"""Counts changes of the kernel that move the last bits."""
NAME = f"c {VERSION}"
"""What outputs note that were made with it."""
LARGEST_DIFFERENCE = 1e-4
"""From torch's values of a made-up clip, as a part of the largest of a kind."""
_COMPARED = ("left", "right", "mid", "side", "peak", "lufs", "mix_lufs", "flatness_db", "bands")

_POINTER, _INTEGER, _DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class _Analysis(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("window", "inner", "outer", "erbs", "erb_edges", "bands")),
        *((name, _INTEGER) for name in ("bins", "erb_count", "band_count")),
    )


class _Plan(ctypes.Structure):
    _fields_ = (
        ("fine", _Analysis),
        ("coarse", _Analysis),
        ("taps", _POINTER),
        *((name, _INTEGER) for name in ("margin", "flat_first", "flat_stop")),
        *((name, _DOUBLE) for name in ("flat_floor", "flat_floor_db")),
    )


class MeasureKernel:
    """The built library. Raises OSError where it is another one."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

        def function(name: str, result: Any, *arguments: Any) -> Any:
            found = getattr(library, name)
            found.restype, found.argtypes = result, arguments
            return found

        version = function("measure_version", _INTEGER)()
        if version != VERSION:
            raise OSError(f"version {version} of the descriptors' kernel, not {VERSION}")
        self._scratch_floats = function("measure_scratch", _INTEGER, _INTEGER)
        self._stem = function("measure_stem", None, *[_POINTER] * 2, _INTEGER, *[_POINTER] * 6)
        self._loudness = function("measure_loudness", None, _POINTER, _INTEGER, _POINTER, *[_INTEGER] * 2, _POINTER)
        self._masking = function("measure_masking", None, *[_POINTER] * 3, *[_DOUBLE] * 2, _POINTER)
        self._scratch: deque[Tensor] = deque()  # kept: the system clears new memory, which takes a tenth of a clip

    def __reduce__(self) -> Any:
        raise TypeError("a library is loaded by each process for itself")

    def measure(self, stems: Tensor, sample_rate: int) -> Measured:
        """What `measured.measure` gives for clips [B, 4, 2, T] float32 on the CPU, on as many threads as torch may use.

        Their number does not move the result, nor do the other clips. Raises ValueError as it does.
        """
        stems = stems.contiguous()
        clips, S, _, samples = stems.shape
        plan, constants = _plan(sample_rate)
        step, steps = step_samples(sample_rate), count_steps(samples, sample_rate)
        frames = samples // (COARSE_HOP * DECIMATION) + 1, samples // FINE_HOP + 1
        values = torch.empty(clips, S, 6, dtype=torch.float64)
        bands = torch.empty(clips, S, 2, len(band_edges()), dtype=torch.float64)
        coarse, fine = (torch.empty(clips, S, n, count) for n, count in zip(frames, ERB_BANDS, strict=True))
        power = torch.empty(clips, S + 1, 2, steps, dtype=torch.float64)

        def run(part: tuple[int, int]) -> None:
            clip, stem = part
            if stem == S:
                sections = constants[-1].ctypes.data
                self._loudness(stems[clip].data_ptr(), samples, sections, step, steps, power[clip].data_ptr())
                return
            left = stems[clip, stem].data_ptr()
            scratch = self._take_scratch(samples)
            out = [tensor[clip, stem].data_ptr() for tensor in (values, bands, coarse, fine)]
            self._stem(left, left + 4 * samples, samples, ctypes.addressof(plan), scratch.data_ptr(), *out)
            self._scratch.append(scratch)

        run_each(run, [(clip, part) for clip in range(clips) for part in (S, *range(S))])
        masked = torch.empty(clips, S, 7, dtype=torch.float64)
        sizes = np.array([*zip(frames, ERB_BANDS, strict=True)], np.int64)
        limits = 10 ** (ACTIVE_DB / 10), MASKING_LIMIT_DB

        def compare(clip: int) -> None:
            tiles = coarse[clip].data_ptr(), fine[clip].data_ptr(), sizes.ctypes.data
            self._masking(*tiles, *limits, masked[clip].data_ptr())

        run_each(compare, range(clips))
        numbers = values.float()
        left, right, mid, side = (nan_unless_finite(power) for power in numbers[..., :4].unbind(-1))
        lufs = gated_loudness(power.float())
        return Measured(
            stems=stems,
            sample_rate=sample_rate,
            left=left,
            right=right,
            mid=mid,
            side=side,
            peak=numbers[..., 4] + 0 * (left + right),  # NaN in the audio is no largest sample in C
            lufs=lufs[:, :S],
            mix_lufs=lufs[:, S],
            bands=bands.float(),
            flatness_db=numbers[..., 5],
            coarse_tiles=coarse,
            fine_tiles=fine,
            masked=masked.float(),
        )

    def check(self) -> None:
        """Measures a made-up clip beside torch. Raises OSError where they differ by more than rounding."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, len(STEMS), 2, SAMPLE_RATE // 2 + 77, generator=generator)
        stems = 0.1 * noise.cumsum(-1).sin() + 0.02 * noise
        stems[:, 1, 1] = stems[:, 1, 0]  # mono
        stems[:, 2] = 0
        wanted, found = measure(stems, SAMPLE_RATE), self.measure(stems, SAMPLE_RATE)
        compared = {name: (getattr(found, name), getattr(wanted, name)) for name in _COMPARED}
        compared |= {n: (getattr(found, n).mean(2), getattr(wanted, n).mean(2)) for n in ("coarse_tiles", "fine_tiles")}
        mean, sums = tile_sums(found)
        compared["masked"] = found.masked, torch.cat([mean[..., None], sums], -1)
        for name, (ours, theirs) in compared.items():
            worst = ((ours - theirs).abs().max() / theirs.abs().max()).item()
            if not worst < LARGEST_DIFFERENCE:
                raise OSError(f"the descriptors' kernel computes wrongly on this machine ({name} by {worst:.1e})")

    def _take_scratch(self, samples: int) -> Tensor:
        """Memory that no other thread has."""
        size = self._scratch_floats(samples)
        try:
            scratch = self._scratch.pop()
        except IndexError:
            return torch.empty(size)
        return scratch if len(scratch) >= size else torch.empty(size)


@lru_cache(maxsize=16)
def _plan(sample_rate: int) -> tuple[_Plan, list[NDArray[Any]]]:
    """The constants as C reads them, and the arrays that these point to; the last are the K-weighting's sections."""
    check_rate(sample_rate)
    above = [(max(low, CROSSOVER_HZ), max(high, CROSSOVER_HZ)) for low, high in band_edges()]
    below = [(min(low, CROSSOVER_HZ), min(high, CROSSOVER_HZ)) for low, high in band_edges()]
    erbs_below = list(pairwise(erb_edges(LOWEST_HZ, CROSSOVER_HZ, ERB_BANDS[0])))
    erbs_above = list(pairwise(erb_edges(CROSSOVER_HZ, MASKING_TOP_HZ, ERB_BANDS[1])))
    arrays: list[NDArray[Any]] = []
    fine = _analysis(FINE_WINDOW, sample_rate, above, erbs_above, arrays)
    coarse = _analysis(COARSE_WINDOW, sample_rate / DECIMATION, below, erbs_below, arrays)
    first, last = (round(f * FINE_WINDOW / sample_rate) for f in FLATNESS_HZ)
    taps = _kept(decimator(), arrays)
    floor = 10 ** (FLATNESS_FLOOR_DB / 10)
    plan = _Plan(fine, coarse, taps, MARGIN, first, last + 1, floor, FLATNESS_FLOOR_DB)
    sections = [[*(b / a[0]), *(a[1:] / a[0])] for b, a in k_weighting_filters(sample_rate)]
    arrays.append(np.array(sections, np.float64))
    return plan, arrays


def _analysis(
    window: int,
    rate: float,
    bands: list[tuple[float, float]],
    erbs: list[tuple[float, float]],
    arrays: list[NDArray[Any]],
) -> _Analysis:
    """The tables of one of the two resolutions, at a sampling rate in Hz."""
    shape = hann(window)
    per_bin = mean_square_per_bin(shape)
    inner_bin = per_bin[1]  # the first and the last bin have no mirror image
    weights = (per_bin / inner_bin)[:, None]
    of_bands, of_erbs = (weights * bin_shares(edges, window, rate) for edges in (bands, erbs))
    used = int(np.flatnonzero((of_bands.sum(1) + of_erbs.sum(1)) > 0)[-1]) + 1
    reads = [np.flatnonzero(column) for column in of_erbs.T]
    edges = np.array([[bins[0], bins[-1] + 1] for bins in reads], np.int64)
    root = round(window**0.5)
    quarter = root // 4
    return _Analysis(
        window=_kept(shape * (inner_bin**0.5 / 2), arrays),  # two frames at once come out doubled
        inner=_kept(_turns(np.outer(np.arange(quarter), np.arange(4)), root), arrays),
        outer=_kept(_turns(np.outer(np.arange(root), np.arange(root)), window), arrays),
        erbs=_kept(of_erbs[:used].T, arrays),
        erb_edges=_kept(edges, arrays, np.int64),
        bands=_kept(of_bands[:used].T, arrays),
        bins=used,
        erb_count=len(erbs),
        band_count=len(bands),
    )


def _turns(steps: NDArray[np.int_], points: int) -> Doubles:
    """e^(-2 pi i step / points) as cosines and sines [..., 2]."""
    angle = -2 * np.pi * steps / points
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def _kept(values: NDArray[Any], arrays: list[NDArray[Any]], dtype: Any = np.float32) -> int:
    """The address of an array that the list keeps alive."""
    arrays.append(np.ascontiguousarray(values, dtype))
    return arrays[-1].ctypes.data
