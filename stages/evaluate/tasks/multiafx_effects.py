"""The effects of multiafx that chains of nobody's training are drawn from, and how they are applied.

multiafx (MIT) has 85 effects; here are the 29 that run on torchaudio, scipy and numpy alone, with the ranges that the
package draws their parameters from. The table is held against the package that is installed: one that lacks an effect,
draws it otherwise or cannot run it is refused. It is a tool of this evaluation, never a dependency of mixstyle.
"""

import importlib
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE

VERSION = "0.1.1"
"""Of the package that the table is of."""
WHOLE = frozenset({"order", "numtaps"})
"""Parameters that are whole numbers."""
UNUSED = ("sox", "audiomentations")
"""Libraries that multiafx does without where they cannot be imported: none of these effects needs them, and they take
long to load."""
Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Range:
    """What a parameter is drawn from, evenly, or evenly in its logarithm. In the package's units."""

    low: float
    high: float
    log: bool = False

    def drawn(self, rng: np.random.Generator) -> float:
        if self.log:
            return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return float(rng.uniform(self.low, self.high))


EFFECTS: Mapping[str, tuple[str, Mapping[str, Range]]] = {
    "ta_overdrive": ("DISTORTION", {"gain": Range(5.0, 50.0), "colour": Range(5.0, 80.0)}),
    "ta_contrast": ("DYNAMICS", {"enhancement_amount": Range(10.0, 100.0)}),
    "ta_gain": ("DYNAMICS", {"gain_db": Range(-6.0, 6.0)}),
    "ta_dcshift": ("OTHER", {"shift": Range(-0.05, 0.05), "limiter_gain": Range(0.01, 0.05)}),
    "ta_bass_biquad": (
        "EQ",
        {"gain_db": Range(-12.0, 12.0), "central_freq": Range(50.0, 300.0, True), "Q": Range(0.5, 2.0)},
    ),
    "ta_treble_biquad": (
        "EQ",
        {"gain_db": Range(-12.0, 12.0), "central_freq": Range(2000.0, 10000.0, True), "Q": Range(0.5, 2.0)},
    ),
    "ta_equalizer_biquad": (
        "EQ",
        {"center_freq": Range(80.0, 12000.0, True), "gain_db": Range(-15.0, 15.0), "Q": Range(0.5, 5.0)},
    ),
    "ta_highpass_biquad": ("EQ", {"cutoff_freq": Range(20.0, 2000.0, True), "Q": Range(0.5, 2.0)}),
    "ta_lowpass_biquad": ("EQ", {"cutoff_freq": Range(1000.0, 18000.0, True), "Q": Range(0.5, 2.0)}),
    "ta_bandpass_biquad": ("EQ", {"central_freq": Range(200.0, 8000.0, True), "Q": Range(0.5, 5.0)}),
    "ta_bandreject_biquad": ("EQ", {"central_freq": Range(200.0, 8000.0, True), "Q": Range(0.5, 5.0)}),
    "ta_allpass_biquad": ("EQ", {"central_freq": Range(100.0, 8000.0, True), "Q": Range(0.5, 5.0)}),
    "ta_riaa_biquad": ("SPECTRAL", {}),
    "ta_deemph_biquad": ("SPECTRAL", {}),
    "sci_butter_lowpass": ("EQ", {"order": Range(2.0, 6.0), "cutoff": Range(1000.0, 18000.0, True)}),
    "sci_butter_highpass": ("EQ", {"order": Range(2.0, 6.0), "cutoff": Range(20.0, 2000.0, True)}),
    "sci_butter_bandpass": (
        "EQ",
        {"order": Range(2.0, 4.0), "low_freq": Range(200.0, 1000.0, True), "high_freq": Range(2000.0, 10000.0, True)},
    ),
    "sci_butter_bandstop": (
        "EQ",
        {"order": Range(2.0, 4.0), "low_freq": Range(200.0, 1000.0, True), "high_freq": Range(2000.0, 10000.0, True)},
    ),
    "sci_cheby1_lowpass": (
        "EQ",
        {"order": Range(2.0, 6.0), "ripple": Range(0.5, 3.0), "cutoff": Range(1000.0, 18000.0, True)},
    ),
    "sci_cheby1_highpass": (
        "EQ",
        {"order": Range(2.0, 6.0), "ripple": Range(0.5, 3.0), "cutoff": Range(20.0, 2000.0, True)},
    ),
    "sci_cheby2_lowpass": (
        "EQ",
        {"order": Range(2.0, 6.0), "attenuation": Range(20.0, 60.0), "cutoff": Range(1000.0, 18000.0, True)},
    ),
    "sci_bessel_lowpass": ("EQ", {"order": Range(2.0, 6.0), "cutoff": Range(1000.0, 18000.0, True)}),
    "sci_bessel_highpass": ("EQ", {"order": Range(2.0, 6.0), "cutoff": Range(20.0, 2000.0, True)}),
    "sci_notch_iir": ("EQ", {"freq": Range(50.0, 8000.0, True), "Q": Range(1.0, 30.0)}),
    "sci_peak_iir": ("EQ", {"freq": Range(80.0, 12000.0, True), "Q": Range(1.0, 30.0)}),
    "sci_fir_lowpass": ("EQ", {"numtaps": Range(31.0, 255.0), "cutoff": Range(1000.0, 18000.0, True)}),
    "sci_fir_highpass": ("EQ", {"numtaps": Range(31.0, 255.0), "cutoff": Range(20.0, 2000.0, True)}),
    "npy_lr_pan": ("STEREO", {"pan": Range(-1.0, 1.0)}),
    "npy_stereo_widener": ("STEREO", {"width": Range(0.0, 2.0)}),
}
"""Category and parameters of each effect, by the package's name for it."""


@dataclass(frozen=True)
class UnseenEffect:
    """One effect as it is applied."""

    name: str
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class UnseenChain:
    """A `Step` of an item: a chain of effects for each stem, in the order of `STEMS`."""

    stems: tuple[tuple[UnseenEffect, ...], ...]

    def apply(self, stems: Audio) -> Audio:
        """Stems [4, 2, T] with their chains. Raises MixstyleError for an effect that fails, by name."""
        return np.stack([_applied(stem, chain) for stem, chain in zip(stems, self.stems, strict=True)])

    def to_json(self) -> dict[str, Any]:
        return {
            "multiafx": VERSION,
            "stems": [[{"name": effect.name, **effect.parameters} for effect in chain] for chain in self.stems],
        }


def draw_unseen(rng: np.random.Generator, effects: int) -> tuple[UnseenEffect, ...]:
    """A chain of that many effects, no two of one category in a row, as the package draws its own."""
    chain: list[UnseenEffect] = []
    before = ""
    for _ in range(effects):
        names = [name for name, (category, _) in EFFECTS.items() if category != before]
        name = names[int(rng.integers(len(names)))]
        before, ranges = EFFECTS[name]
        drawn = {key: told.drawn(rng) for key, told in ranges.items()}
        chain.append(UnseenEffect(name, {key: float(round(v)) if key in WHOLE else v for key, v in drawn.items()}))
    return tuple(chain)


@cache
def check_package() -> None:
    """Makes sure that the package is there, has every effect of the table, draws it so, and runs it.

    Raises MixstyleError ("no-package") with the command that installs it, and for an effect that is missing or fails,
    by name.
    """
    registry = _package().registry
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal((2, SAMPLE_RATE // 5))).astype(np.float32)
    for name, (category, ranges) in EFFECTS.items():
        if name not in registry:
            raise _refused(f"has no effect {name}")
        found = registry.get(name)
        told = {key: Range(r.min_val, r.max_val, r.log_scale) for key, r in found.param_ranges.items()}
        if told != dict(ranges) or found.macro_category.value != category:
            raise _refused(f"draws {name} from other ranges than its version {VERSION}")
        _applied(noise, (UnseenEffect(name, {key: each.drawn(rng) for key, each in ranges.items()}),))


def _applied(stem: Audio, chain: tuple[UnseenEffect, ...]) -> Audio:
    for effect in chain:
        step = {"effect": effect.name, "params": dict(effect.parameters)}
        try:
            out = _package().apply_chain(stem, SAMPLE_RATE, [step])
        except Exception as error:
            raise _refused(f"failed at {effect.name} ({type(error).__name__}: {error})") from error
        if out.shape != stem.shape:
            raise _refused(f"gave {list(out.shape)} at {effect.name}, not {list(stem.shape)}")
        stem = out
    return stem


@cache
def _package() -> Any:
    try:
        with _without(UNUSED):
            return importlib.import_module("multiafx")
    except ImportError as error:
        raise MixstyleError(
            f"evaluate.tasks: unseen-effects needs the package multiafx ({error}); install it: "
            f"uv pip install multiafx=={VERSION}",
            code="no-package",
        ) from error


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """Modules that are not there for a while, unless they are loaded already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # pyright: ignore[reportArgumentType, reportCallIssue] (None: no such module)
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def _refused(what: str) -> MixstyleError:
    return MixstyleError(
        f"evaluate.tasks: unseen-effects: the installed multiafx {what}; install the version that the effects are "
        f"committed for: uv pip install multiafx=={VERSION}",
        code="misfit",
    )
