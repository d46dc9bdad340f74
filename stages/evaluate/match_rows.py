"""The rows of `evaluate-match`: what is made of one mix to bring it to another, and how far that then is from it.

Each row gives a mix; those that match true stems give the stems too. All but the first are at the reference's loudness.
A mix is heard as a user's is: separated again, where there is a separator. So descriptors and embeddings are those of
separated stems in every row alike; without a separator only the rows of true stems have any.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.absent_stems import is_meaningful
from mixstyle.pipeline.descriptors.bands_and_floors import OCTAVES_HZ
from mixstyle.pipeline.descriptors.loudness import integrated_loudness
from mixstyle.pipeline.descriptors.table import DESCRIPTORS, columns
from mixstyle.pipeline.encoder.embed_clips import embed_clips
from mixstyle.pipeline.matching.desk import FULL, GENTLE, WIDE, Bounds, Strip
from mixstyle.pipeline.matching.distance import mrstft
from mixstyle.pipeline.matching.estimate import estimate
from mixstyle.pipeline.matching.inserts import INSERTS
from mixstyle.pipeline.matching.metric import DescriptorMetric
from mixstyle.pipeline.matching.mix_search import MixTask, search_effects
from mixstyle.pipeline.matching.on_the_mix import mix_strip
from mixstyle.pipeline.matching.profile import measure_profile
from mixstyle.pipeline.matching.render import SongRunner, strip_levels
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import MixChain, apply_mix_chain
from mixstyle.stages.common.assets import FIRST_ENCODER
from mixstyle.stages.common.descriptor_kernel import describe

AS_IS, LOUDNESS, MATCHERING = "as it is", "loudness only", "matchering, on the mix"
TRUE_STEMS, SEPARATED = "match, true stems", "match, separated stems"
TRUE_SEARCHED, SEPARATED_SEARCHED = "match --search, true stems", "match --search, separated stems"
JUDGE = FIRST_ENCODER
"""The encoder of mixstyle 0.1: it was trained otherwise than the one whose whitening the search goes by."""
KNOWN_INSERTS, KNOWN_EFFECTS = "effects known (those of --search)", "effects known (all)"
"""What no user has: before the closed form, the song's true stems get effects of the reference's own chain with its
parameters. Either those that a search may set, or all that the closed form cannot set. So a search cannot be expected
to come nearer."""
MIX_ONLY = "equalisers on the mix only"
"""No stem is changed: what the stems' settings are worth is the difference from this."""
KNOWN_SETTINGS = "settings of true stems, on separated stems"
"""What no user has: what the closed form finds with true stems, put on separated ones. So what is farther away than the
match with true stems comes from stems that contain parts of each other, not from an estimate that is wrong."""
ALL = np.full(len(STEMS), True)
"""A separator may have moved what is absent to another stem, so with separated stems all of the mix is compared."""
KNOWN = {
    KNOWN_INSERTS: INSERTS,
    KNOWN_EFFECTS: tuple(name for name in EFFECTS if name not in ("gain", "tilt", "bandwidth", "eq", "pan", "width")),
}
ROWS = (
    *(AS_IS, LOUDNESS, MATCHERING, TRUE_STEMS, TRUE_SEARCHED, KNOWN_INSERTS, KNOWN_EFFECTS),
    *(MIX_ONLY, SEPARATED, SEPARATED_SEARCHED, KNOWN_SETTINGS),
)
"""In the order in which they are told."""
SETTINGS = {
    "balance_lu": tuple(columns(kind="relative_loudness_lu")),
    "octaves_db": tuple(column for hz in OCTAVES_HZ[1:-1] for column in columns(octave_hz=hz)),
    "left_right_db": tuple(columns(kind="level_difference_db")),
    "width_db": tuple(columns(kind="mid_side_db")),
    "crest_db": tuple(columns(kind="crest_db")),
}
"""What an engineer sets, as descriptors tell it: how far true stems are from where they should be."""


@dataclass(frozen=True)
class Pair:
    """The stems [4, 2, T] of a clip, and those that they should be mixed like: the same clip's, or another song's.
    song: a number. chain: by which the wanted ones were made of the song; None where they are of another song."""

    song: int
    mine: Tensor
    wanted: Tensor
    chain: MixChain | None = None


@dataclass(frozen=True)
class Tools:
    """separate: mixtures [2, T] into stems; None where stems are not separated. small: whether the separator is a small
    one. metric: of descriptors. search: whether there are the rows of a search. judge: an encoder that no row goes by;
    None where there is none."""

    separate: Callable[[Sequence[Tensor]], list[Tensor]] | None
    small: bool
    metric: DescriptorMetric
    search: bool
    judge: LoadedEncoder | None

    def heard(self, mix: Tensor, stems: Tensor | None) -> Tensor | None:
        """The stems [4, 2, T] of a mix as they are heard; None where nobody can tell."""
        return self.separate([mix])[0] if self.separate is not None else stems


@dataclass(frozen=True)
class Made:
    """What a row made. stems: where true ones were changed."""

    mix: Tensor
    stems: Tensor | None = None


def rows(pair: Pair, tools: Tools) -> dict[str, Made]:
    """What each row makes of a pair."""
    mix, wanted = pair.mine.sum(0), pair.wanted.sum(0)
    made = {AS_IS: Made(mix, pair.mine), LOUDNESS: Made(_at_loudness(mix, wanted), pair.mine)}
    if has_matchering():
        made[MATCHERING] = Made(_at_loudness(_matchering(mix, wanted), wanted))
    true, both = _settings(pair.mine, pair.wanted, WIDE, tools)
    made[TRUE_STEMS] = _rendered(mix, pair.mine, pair.wanted, wanted, true, both)
    if tools.search:
        found = _settings(pair.mine, pair.wanted, WIDE, tools, search=True)
        made[TRUE_SEARCHED] = _rendered(mix, pair.mine, pair.wanted, wanted, *found)
    if pair.chain is not None:
        for row, names in KNOWN.items():
            effects = tuple(tuple(one for one in chain if one.name in names) for chain in pair.chain.stems)
            stems = torch.from_numpy(apply_mix_chain(pair.mine.numpy(), MixChain(effects)))
            found = _settings(stems, pair.wanted, WIDE, tools)
            made[row] = _rendered(stems.sum(0), stems, pair.wanted, wanted, *found)
    if tools.separate is not None:
        mine, reference = tools.separate([mix, wanted])
        bounds = GENTLE if tools.small else FULL
        settings = {
            MIX_ONLY: (Strip(),) * len(STEMS),
            SEPARATED: _settings(mine, reference, bounds, tools)[0],
            KNOWN_SETTINGS: true,
        }
        if tools.search:
            settings[SEPARATED_SEARCHED] = _settings(mine, reference, bounds, tools, search=True)[0]
        for row, strips in settings.items():  # their stems are no true ones: nothing is told of those
            made[row] = Made(_rendered(mix, mine, reference, wanted, strips, ALL).mix)
    return made


def paired(pair: Pair, made: Mapping[str, Made], tools: Tools) -> dict[str, dict[str, float]]:
    """By row, for a pair of the same content: `mrstft`; `descriptors`, the distance of whitened descriptors; and of
    true stems how far the settings are off (`SETTINGS`)."""
    wanted = pair.wanted.sum(0)
    heard, true_values = tools.heard(wanted, pair.wanted), _described(pair.wanted)
    found = {}
    for row, one in made.items():
        found[row] = {"mrstft": mrstft(one.mix, wanted), **_apart(one, heard, tools)}
        if one.stems is not None:
            found[row] |= settings_errors(_described(one.stems), true_values)
    return found


def unpaired(pair: Pair, made: Mapping[str, Made], tools: Tools) -> dict[str, dict[str, float]]:
    """By row, for a reference that is another song: `descriptors` and `cosine`, of the encoder that judges."""
    heard = tools.heard(pair.wanted.sum(0), pair.wanted)
    return {row: _apart(one, heard, tools, judged=True) for row, one in made.items()}


def settings_errors(values: NDArray[np.float32], wanted: NDArray[np.float32]) -> dict[str, float]:
    """Mean differences of descriptors [D] over the stems that both have, by what an engineer sets."""
    errors = {}
    for name, chosen in SETTINGS.items():
        counted = [column for column in chosen if is_meaningful(column, values, wanted)]
        errors[name] = float(np.abs(values[counted] - wanted[counted]).mean()) if counted else float("nan")
    return errors


def has_matchering() -> bool:
    """Whether the package is installed; it is no dependency of mixstyle."""
    return importlib.util.find_spec("matchering") is not None


def _apart(one: Made, wanted: Tensor | None, tools: Tools, judged: bool = False) -> dict[str, float]:
    heard = tools.heard(one.mix, one.stems)
    if heard is None or wanted is None:
        return {}
    values, goal = _described(heard), _described(wanted)
    counted = [
        column
        for column, d in enumerate(DESCRIPTORS)
        if not d.moves_with_level and all(is_meaningful(column, song) for song in (values, goal))
    ]
    found = {"descriptors": float(tools.metric.distances(values[None, counted], goal[counted], counted)[0])}
    if judged and tools.judge is not None:
        clips = torch.stack([heard, wanted])
        embeddings = embed_clips(tools.judge.encoder, tools.judge.mel, clips, describe=describe)
        mine, other = torch.nn.functional.normalize(embeddings, dim=-1)
        found["cosine"] = float(mine @ other)
    return found


def _settings(
    mine: Tensor, reference: Tensor, bounds: Bounds, tools: Tools, *, search: bool = False
) -> tuple[tuple[Strip, ...], NDArray[np.bool_]]:
    """What a match sets on stems [4, 2, T] to bring them to a reference's, and which stems both have [4]."""
    profiles = measure_profile([mine]), measure_profile([reference])
    found = estimate(*profiles, bounds=bounds)
    if search:
        separate = tools.separate if bounds != WIDE else None
        task = MixTask([mine], [[reference]], *profiles, 1.0, (), bounds, separate, describe)
        found = search_effects(task, found, tools.metric).estimate
    return found.strips, profiles[0].present & profiles[1].present


def _rendered(
    mix: Tensor,
    stems: Tensor,
    reference: Tensor,
    wanted: Tensor,
    strips: Sequence[Strip],
    compared: NDArray[np.bool_],
) -> Made:
    """A mix with strips on its stems [4, 2, T], equalised to a reference by the stems that are `compared` [4], at the
    loudness of `wanted`."""
    levels = strip_levels(strips, [stems.numpy()])
    bus = None
    if compared.any():
        _, changed = SongRunner(strips, levels=levels).run(stems.sum(0).numpy(), stems.numpy())
        bus = mix_strip([changed[compared].sum(0)], [reference.numpy()[compared].sum(0)])
    made, changed = SongRunner(strips, levels=levels, mix=bus).run(mix.numpy(), stems.numpy())
    return Made(_at_loudness(torch.from_numpy(made), wanted), torch.from_numpy(changed))


def _matchering(mix: Tensor, wanted: Tensor) -> Tensor:
    """A mix mastered to another by matchering (its equaliser and loudness, without its limiter)."""
    import matchering

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("target.wav", "reference.wav", "result.wav")]
        for path, audio in zip(paths[:2], (mix, wanted), strict=True):
            level = max(1.0, float(audio.abs().max()))  # it refuses nothing above full scale, but warns
            soundfile.write(path, (audio / level).T.numpy(), SAMPLE_RATE, subtype="FLOAT")
        result = matchering.Result(str(paths[2]), subtype="FLOAT", use_limiter=False, normalize=False)
        matchering.process(target=str(paths[0]), reference=str(paths[1]), results=[result])
        audio = soundfile.read(paths[2], dtype="float32", always_2d=True)[0].T
    return torch.from_numpy(np.ascontiguousarray(audio))[:, : mix.shape[-1]]


def _described(stems: Tensor) -> NDArray[np.float32]:
    return describe(stems[None].float())[0].numpy()


def _at_loudness(audio: Tensor, wanted: Tensor) -> Tensor:
    found, goal = (float(integrated_loudness(one[None], SAMPLE_RATE)[0]) for one in (audio, wanted))
    return audio * 10 ** ((goal - found) / 20)
