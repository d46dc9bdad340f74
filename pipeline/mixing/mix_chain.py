"""Mixes a clip's stems in another way: the hard negatives of training are the anchor's own stems under another mix.

The effects are those of `mixstyle.pipeline.mixing.effects.EFFECTS`. `draw_mix_chain` draws a `MixChain`, a record of
everything that is done and in which order: a chain of effects on each stem, and one on the mix. `apply_mix_chain` does
it. The same record gives the same samples.

A chain on the mix is applied to the stems such that they add up to the mix that it makes: a linear effect to each stem
alike, and one that multiplies samples by a gain (dynamics, saturation) by the gain that the mix got at each sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.absent_stems import is_present
from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS
from mixstyle.pipeline.descriptors.loudness import MOST_GAIN_DB, integrated_loudness
from mixstyle.pipeline.mixing.effects import EFFECTS, PUBLISHED, Parameter

MIX = "mix"
PLACES = (*STEMS, MIX)
"""Where a mix chain has effects."""
LEVELS = ("loudness_match", "stem_lufs", "mix_lufs")
"""What else it says, by name."""
QUIET = 1e-6
"""Samples of a mix below this (-120 dBFS) do not tell its gain: their neighbours' is taken."""


@dataclass(frozen=True)
class Effect:
    """One effect as it is applied; parameters by the registry's names, in their units."""

    name: str
    parameters: Mapping[str, float]


Chain = tuple[Effect, ...]


@dataclass(frozen=True)
class MixChain:
    """Everything that is done to a clip, in the order in which it is done.

    stem_lufs: the integrated loudness that each stem is brought to first; if empty, stems keep their own.
    stems: a chain for each, in the order of `STEMS`. mix: the chain on their sum. At last one gain on all stems gives
    their sum the loudness mix_lufs, or with loudness_match the one that it had. Raises ValueError for both of these.
    """

    stems: tuple[Chain, ...]
    mix: Chain = ()
    loudness_match: bool = False
    stem_lufs: tuple[float, ...] = ()
    mix_lufs: float | None = None

    def __post_init__(self) -> None:
        if self.loudness_match and self.mix_lufs is not None:
            raise ValueError("a mix chain has either loudness_match or mix_lufs")
        if len(self.stem_lufs) not in (0, len(STEMS)):
            raise ValueError(f"stem_lufs should hold {len(STEMS)} values or none, not {len(self.stem_lufs)}")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, chains by the stem's name."""
        chains = dict(zip(PLACES, (*self.stems, self.mix), strict=True))
        plain = {place: [{"name": e.name, **e.parameters} for e in chain] for place, chain in chains.items()}
        levels = {"stem_lufs": list(self.stem_lufs), "mix_lufs": self.mix_lufs}
        return {**plain, "loudness_match": self.loudness_match, **levels}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "MixChain":
        """Reads what `to_json` made. Raises ValueError for stems or effects that do not exist."""
        if set(data) != {*PLACES, *LEVELS}:
            raise ValueError(f"a mix chain should name {', '.join((*PLACES, *LEVELS))}, not {', '.join(data)}")
        *stems, mix = (tuple(_effect(entry) for entry in data[place]) for place in PLACES)
        lufs, whole = tuple(float(value) for value in data["stem_lufs"]), data["mix_lufs"]
        return cls(tuple(stems), mix, bool(data["loudness_match"]), lufs, None if whole is None else float(whole))


@dataclass(frozen=True)
class MixChainSettings:
    """How mix chains are drawn; the defaults are the published ones.

    aug_prob: probability of each effect on each stem. gain_range_db: gains are within it. effects: which ones.
    mix_prob: probability of each effect on the mix. shuffle: draw a chain's order, else that of the registry.
    loudness_match: the result has the loudness of what it was made from. Raises ValueError for a probability outside
    0 to 1, for a range below 0 dB and for effects that do not exist.
    """

    aug_prob: float = 0.5
    gain_range_db: float = 9.0
    effects: tuple[str, ...] = PUBLISHED
    mix_prob: float = 0.0
    shuffle: bool = False
    loudness_match: bool = False

    def __post_init__(self) -> None:
        for name in ("aug_prob", "mix_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} should be between 0 and 1")
        if not self.gain_range_db >= 0:
            raise ValueError(f"gain_range_db={self.gain_range_db} should not be below 0")
        unknown = [name for name in self.effects if name not in EFFECTS]
        if unknown or len(set(self.effects)) != len(self.effects):
            raise ValueError(f"effects={list(self.effects)} should name some of {', '.join(EFFECTS)}, each once")
        if not self.active:
            raise ValueError("effects and gain_range_db leave nothing to do")

    @property
    def active(self) -> tuple[str, ...]:
        """Effects that are drawn, in the registry's order: at 0 dB a gain is none."""
        return tuple(name for name in EFFECTS if name in self.effects and (name != "gain" or self.gain_range_db > 0))


def draw_mix_chain(rng: np.random.Generator, settings: MixChainSettings) -> MixChain:
    """Draws a mix chain: each effect on each stem with probability `aug_prob`, and one at least on one stem.

    With a gain range below 1.5 dB gains are drawn up to it; at 0 dB gain is no effect and is never drawn.
    """
    names = settings.active
    drawn = rng.random((len(STEMS), len(names))) < settings.aug_prob
    if not drawn.any():
        drawn[rng.integers(len(STEMS)), rng.integers(len(names))] = True
    stems = tuple(_draw_chain(rng, names, row, settings) for row in drawn)
    mix: Chain = ()
    if settings.mix_prob:
        mix = _draw_chain(rng, names, rng.random(len(names)) < settings.mix_prob, settings)
    return MixChain(stems, mix, settings.loudness_match)


def apply_mix_chain(stems: np.ndarray, mix_chain: MixChain, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Stems float32 [4, 2, T] mixed by the chains, as long as they were; a stem without effects is the same to the bit.

    Tails of reverbs and delays end with the clip. A stem that is absent (`absent_stems.is_present`) is brought to no
    loudness. Raises ValueError for another shape, for samples that are not finite (one would make nearly all of
    pedalboard's output so), for effects or parameters that do not exist, and where a loudness is to be set for less
    than 400 ms.
    """
    if stems.ndim != 3 or stems.shape[:2] != (len(STEMS), 2):
        raise ValueError(f"stems to mix should be [4, 2, T], not {list(stems.shape)}")
    if not np.isfinite(stems).all():
        raise ValueError("stems to mix hold NaN or infinite samples")
    for effect in (effect for chain in (*mix_chain.stems, mix_chain.mix) for effect in chain):
        spec = EFFECTS.get(effect.name)
        if spec is None or set(effect.parameters) != set(spec.parameters):
            raise ValueError(f"no effect {effect.name!r} with parameters {', '.join(effect.parameters)}")
    out = np.array(stems, np.float32)
    if mix_chain.stem_lufs:
        *found, whole = _loudness(np.concatenate([out, out.sum(0, keepdims=True)]), sample_rate)
        gains_db = np.where(is_present(np.array(found), whole), np.array(mix_chain.stem_lufs) - found, 0.0)
        out *= (10 ** (gains_db / 20))[:, None, None].astype(np.float32)
    for i, chain in enumerate(mix_chain.stems):
        for effect in chain:
            out[i] = EFFECTS[effect.name].process(out[i], effect.parameters, sample_rate)
    for effect in mix_chain.mix:
        _on_mix(out, effect, sample_rate)
    if mix_chain.loudness_match:
        out *= np.float32(10 ** (_loudness_difference_db(stems, out, sample_rate) / 20))
    if mix_chain.mix_lufs is not None:
        whole = float(_loudness(out.sum(0, keepdims=True), sample_rate)[0])
        if whole > LOUDNESS_FLOOR_LUFS:
            out *= np.float32(10 ** (np.clip(mix_chain.mix_lufs - whole, -MOST_GAIN_DB, MOST_GAIN_DB) / 20))
    return out


def _on_mix(stems: np.ndarray, effect: Effect, rate: int) -> None:
    """Applies an effect to the sum of stems, in place."""
    spec = EFFECTS[effect.name]
    if spec.kind == "linear":
        for i in range(len(stems)):
            stems[i] = spec.process(stems[i], effect.parameters, rate)
        return
    mix = stems.sum(0)
    out = spec.process(mix, effect.parameters, rate)
    for channel, (before, after) in enumerate(zip(mix, out, strict=True)):
        told = np.abs(before) > QUIET
        if not told.any():
            continue
        latest = np.maximum.accumulate(np.where(told, np.arange(len(told)), 0))
        latest[: int(told.argmax())] = int(told.argmax())
        stems[:, channel] *= (after[latest] / before[latest]).astype(np.float32)


def _loudness(audio: np.ndarray, rate: int) -> np.ndarray:
    """[n] in LUFS of [n, 2, T]."""
    return integrated_loudness(torch.from_numpy(np.ascontiguousarray(audio)), rate).numpy().astype(np.float64)


def _loudness_difference_db(before: np.ndarray, after: np.ndarray, rate: int) -> float:
    """Gain that gives `after` the loudness of `before`; 0 dB where one is too short or too quiet to have any."""
    if before.shape[-1] < 0.4 * rate:
        return 0.0
    mixes = torch.from_numpy(np.stack([before.sum(0), after.sum(0)]).astype(np.float32))
    target, found = integrated_loudness(mixes, rate).tolist()
    return target - found if min(target, found) > LOUDNESS_FLOOR_LUFS else 0.0


def _draw_chain(
    rng: np.random.Generator, names: tuple[str, ...], chosen: np.ndarray, settings: MixChainSettings
) -> Chain:
    chain = [_draw(name, rng, settings.gain_range_db) for name, on in zip(names, chosen, strict=True) if on]
    if settings.shuffle:
        chain = [chain[i] for i in rng.permutation(len(chain))]
    return tuple(chain)


def _draw(name: str, rng: np.random.Generator, gain_range_db: float) -> Effect:
    if name == "gain":
        apart = EFFECTS["gain"].parameters["gain_db"].apart
        return Effect("gain", {"gain_db": Parameter(-gain_range_db, gain_range_db, "dB", "", apart=apart).draw(rng)})
    return Effect(name, {key: parameter.draw(rng) for key, parameter in EFFECTS[name].parameters.items()})


def _effect(entry: Mapping[str, Any]) -> Effect:
    values = {key: float(value) for key, value in entry.items() if key != "name"}
    if entry.get("name") not in EFFECTS or set(values) != set(EFFECTS[entry["name"]].parameters):
        raise ValueError(f"no effect {entry.get('name')!r} with parameters {', '.join(values)}")
    return Effect(entry["name"], values)


CHAIN_PARAMETERS = tuple(
    name
    for effect, spec in EFFECTS.items()
    for name in (f"{effect}_on", *(f"{effect}_{parameter}" for parameter in spec.parameters))
)
"""Names of what `chain_vector` holds."""


def chain_vector(chain: Chain) -> np.ndarray:
    """A chain as numbers [P], float32: for each effect 1 where it is applied, and its parameters between -1 and 1.

    Those of effects that are not applied are 0; an empty chain is all zeros. Of an effect applied twice
    the last counts; the order is not told. A gain beyond the registry's bounds goes beyond 1.
    """
    values = dict.fromkeys(CHAIN_PARAMETERS, 0.0)
    for effect in chain:
        values[f"{effect.name}_on"] = 1.0
        for name, value in effect.parameters.items():
            values[f"{effect.name}_{name}"] = EFFECTS[effect.name].parameters[name].normalised(value)
    return np.array(list(values.values()), np.float32)


def mix_chain_vector(mix_chain: MixChain) -> np.ndarray:
    """`chain_vector` of each place in turn: the stems, then the mix; [5 P]."""
    return np.concatenate([chain_vector(chain) for chain in (*mix_chain.stems, mix_chain.mix)])


# The names under which `mixstyle` offers these two; no docstring, so that theirs is shown.
sample_remix, apply_remix = draw_mix_chain, apply_mix_chain
