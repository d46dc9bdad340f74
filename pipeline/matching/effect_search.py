"""Which effects of the registry bring a stem nearer to another: by search.

A candidate is a vector in [0, 1]: for each effect how much of it (below OFF none), and its other parameters. The stem's
excerpts run through the effects, and what comes out is compared by how its levels move in time (`short_time`), with a
price on each effect. Equaliser, pan and width follow in closed form, so that mean levels count for nothing here. The
search is CMA-ES (N. Hansen, A. Ostermeier: "Completely derandomized self-adaptation in evolution strategies",
Evolutionary Computation 9, 2001), as pycma has it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.matching.inserts import INSERTS, run_inserts
from mixstyle.pipeline.matching.short_time import short_time_distance, short_time_power
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import Effect

Inserts = tuple[Effect, ...]
Samples = NDArray[np.floating]

OFF = 0.3
"""Of a strength; below, the effect is not set."""
PRICE = 0.03
"""Of an effect at full strength, as a share of the distance without any; half of it at its gentlest."""
POPULATION = 8
EVALUATIONS = 96
"""For each stem."""
STEP = 0.3
"""Of the first generation, in the unit of the vector."""
_SEARCHED: Mapping[str, tuple[str, ...]] = {
    "compression": ("ratio", "threshold_db", "attack_ms", "release_ms"),
    "saturation": ("drive_db",),
    "limiter": ("threshold_db",),
    "reverb": ("wet_level", "room_size", "damping"),
}
"""The parameters that are searched; the first tells how much the effect does."""
_FIXED: Mapping[str, Mapping[str, float]] = {"limiter": {"release_ms": 100.0}, "reverb": {"width": 1.0}}
_STRONG_IS_LOW = {("limiter", "threshold_db")}
_DIGITS = {"wet_level": 2, "room_size": 2, "damping": 2, "attack_ms": 0, "release_ms": 0}
_PLACES = [(effect, name) for effect in INSERTS for name in _SEARCHED[effect]]


@dataclass(frozen=True)
class StemTask:
    """A stem to search for. clips: excerpts [2, T]. wanted: `short_time_power` of the stem of each reference. stereo:
    whether there may be reverb, and the side counts."""

    clips: Sequence[Samples]
    wanted: Sequence[NDArray[np.float64]]
    stereo: bool

    def distance(self, inserts: Inserts) -> float:
        """From the references, as a mean, with effects on the stem."""
        _, made = run_inserts(inserts, self.clips)
        power = short_time_power(made)
        return float(np.mean([short_time_distance(power, one, stereo=self.stereo) for one in self.wanted]))


def search_stem(
    task: StemTask,
    rng: np.random.Generator,
    evaluations: int = EVALUATIONS,
    told: Callable[[float], None] = lambda _: None,
) -> Inserts:
    """The effects that bring a stem nearest, with their price; none where no effect is worth it. told: is called with
    how far it is, 0 to 1."""
    import cma  # takes a second

    none = task.distance(())
    best: tuple[float, Inserts] = (none, ())
    start = [OFF if name == _SEARCHED[effect][0] else 0.5 for effect, name in _PLACES]
    options = {
        "bounds": [0.0, 1.0],
        "popsize": POPULATION,
        "verbose": -9,
        # draws are our own: numpy's global generator stays as it is
        "seed": math.nan,
        "randn": lambda *shape: rng.standard_normal(shape),
    }
    strategy = cma.CMAEvolutionStrategy(start, STEP, options)
    for generation in range(evaluations // POPULATION):
        told(generation * POPULATION / evaluations)
        vectors = strategy.ask()
        candidates = [_possible(inserts_of(vector), stereo=task.stereo) for vector in vectors]
        scores = [task.distance(one) + none * price(one) for one in candidates]
        strategy.tell(vectors, scores)
        place = int(np.argmin(scores))
        best = min(best, (scores[place], candidates[place]), key=lambda one: one[0])
    return best[1]


def inserts_of(vector: Sequence[float] | NDArray[np.float64]) -> Inserts:
    """The effects that a vector stands for, as a desk shows their values."""
    values = dict(zip(_PLACES, np.clip(vector, 0.0, 1.0).tolist(), strict=True))
    found = []
    for effect in INSERTS:
        strength = (values[effect, _SEARCHED[effect][0]] - OFF) / (1 - OFF)
        if strength >= 0:
            shares = {name: values[effect, name] for name in _SEARCHED[effect]} | {_SEARCHED[effect][0]: strength}
            parameters = {name: _value(effect, name, share) for name, share in shares.items()}
            found.append(Effect(effect, {**parameters, **_FIXED.get(effect, {})}))
    return tuple(found)


def _possible(inserts: Inserts, *, stereo: bool) -> Inserts:
    """Without reverb in mono: the registry has it in stereo alone."""
    return tuple(one for one in inserts if stereo or one.name != "reverb")


def price(inserts: Inserts) -> float:
    """What effects cost, as a share of the distance without any."""
    return PRICE * sum((1 + _strength(one)) / 2 for one in inserts)


def _value(effect: str, name: str, share: float) -> float:
    """A share of the registry's bounds as a value, with the digits of a desk."""
    bounds = EFFECTS[effect].parameters[name]
    share = 1 - share if (effect, name) in _STRONG_IS_LOW else share
    if bounds.log:
        value = bounds.low * (bounds.high / bounds.low) ** share
    else:
        value = bounds.low + share * (bounds.high - bounds.low)
    return min(max(round(value, _DIGITS.get(name, 1)), bounds.low), bounds.high)


def _strength(effect: Effect) -> float:
    """0 to 1: how far its first parameter is between its bounds."""
    name = _SEARCHED[effect.name][0]
    share = (EFFECTS[effect.name].parameters[name].normalised(effect.parameters[name]) + 1) / 2
    return 1 - share if (effect.name, name) in _STRONG_IS_LOW else share
