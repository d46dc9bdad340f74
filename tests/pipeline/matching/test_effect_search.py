"""Effects are found where they were put, left out where they were not, and what is chosen is the nearest of all."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.desk_songs import KNOWN, RATE, stems_of, through

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.descriptors.table import DESCRIPTORS
from mixstyle.pipeline.matching.desk import FULL, Strip
from mixstyle.pipeline.matching.effect_search import StemTask, inserts_of, price, search_stem
from mixstyle.pipeline.matching.estimate import estimate
from mixstyle.pipeline.matching.inserts import run_inserts
from mixstyle.pipeline.matching.metric import DescriptorMetric
from mixstyle.pipeline.matching.mix_search import CLOSED_FORM, NOTHING, MixTask, combinations, excerpt, search_effects
from mixstyle.pipeline.matching.profile import measure_profile
from mixstyle.pipeline.matching.render import SongRunner, strip_levels
from mixstyle.pipeline.matching.short_time import short_time_power
from mixstyle.pipeline.mixing.mix_chain import Effect

METRIC = DescriptorMetric(np.full(len(DESCRIPTORS), 2.0))
SQUASHED = Effect("compression", {"threshold_db": -15.0, "ratio": 8.0, "attack_ms": 2.0, "release_ms": 60.0})
WET = Effect("reverb", {"room_size": 0.8, "damping": 0.3, "wet_level": 0.4, "width": 1.0})


def beats(seconds: float = 1.2) -> np.ndarray:
    """[2, T]: bursts of noise that die away, six a second."""
    t = np.arange(round(seconds * RATE))
    noise = np.random.default_rng(3).standard_normal((2, len(t)))
    return (0.3 * noise * np.exp(-(t % (RATE // 6)) / 900)).astype(np.float32)


def task_of(clip: np.ndarray, wanted: np.ndarray) -> StemTask:
    return StemTask([clip], [short_time_power([wanted])], stereo=True)


@pytest.mark.parametrize("effect", [SQUASHED, WET], ids=lambda one: one.name)
def test_an_effect_is_found(effect: Effect) -> None:
    clip = beats()
    task = task_of(clip, run_inserts([effect], [clip])[1][0])
    state = repr(np.random.get_state(legacy=False))
    found = search_stem(task, np.random.default_rng(0), evaluations=40)
    # a limiter holds peaks as a fast compressor does
    assert {effect.name, "limiter" if effect is SQUASHED else effect.name} & {one.name for one in found}
    if effect is SQUASHED:  # by the generator that is given alone
        assert found == search_stem(task, np.random.default_rng(0), evaluations=40)
    assert repr(np.random.get_state(legacy=False)) == state
    assert task.distance(found) < 0.7 * task.distance(())


def test_a_mix_is_compared_by_the_clips_in_which_a_stem_plays() -> None:
    stems = stems_of(seconds=1.0)
    without = stems.clone()
    without[0] = 0  # a song that is sung in one clip of three
    wanted = [without, stems, without]
    profiles = measure_profile(wanted), measure_profile(wanted)
    task = MixTask(wanted, [[stems]], *profiles, 1.0, STEMS, FULL, None)
    vocals = [
        column for column, d in enumerate(DESCRIPTORS) if d.stem == STEMS[0] and d.group in ("spectral", "stereo")
    ]
    metric = DescriptorMetric(np.array([2.0 if column in vocals else 1e9 for column in range(len(DESCRIPTORS))]))
    found = search_effects(task, estimate(*profiles, keep=STEMS), metric, evaluations=8)
    # the reference is the clip with the singer: by medians over all clips its vocals would be tens of dB off
    assert found.distances[NOTHING] == 0


def test_a_stem_that_needs_none_gets_none() -> None:
    clip = beats()
    assert search_stem(task_of(clip, clip), np.random.default_rng(0), evaluations=16) == ()


def test_vectors_are_effects_within_the_registry() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        Strip(inserts=inserts_of(rng.uniform(-0.5, 1.5, 9)))  # refuses what is out of bounds
    assert inserts_of(np.zeros(9)) == ()
    everything = inserts_of(np.ones(9))
    assert [one.name for one in everything] == ["compression", "saturation", "limiter", "reverb"]
    assert everything[0].parameters["ratio"] == 10.0
    assert everything[2].parameters["threshold_db"] == -3.0
    assert price(()) == 0 < price(inserts_of(np.full(9, 0.31))) < price(everything)


def test_combinations_are_all_but_one_and_one_alone() -> None:
    some = (SQUASHED,)
    assert list(combinations([(), (), (), ()])) == []
    assert list(combinations([(), some, (), ()])) == ["effects on bass"]
    three = combinations([some, some, (), some])
    assert len(three) == 7
    assert three["effects on bass and other"] == [(), some, (), some]


def test_what_is_chosen_loses_to_nothing_else() -> None:
    stems = stems_of(seconds=1.0)
    stems[2] = torch.from_numpy(beats(1.0))
    wanted = through(stems, KNOWN)
    wanted[2] = torch.from_numpy(run_inserts([SQUASHED], [wanted[2].numpy()])[1][0])
    profiles = measure_profile([stems]), measure_profile([wanted])
    task = MixTask([stems], [[wanted]], *profiles, 1.0, (), FULL, None)
    closed = estimate(*profiles)
    shares = list[float]()
    found = search_effects(task, closed, METRIC, seed=1, evaluations=8, told=shares.append)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert found == search_effects(task, closed, METRIC, seed=1, evaluations=8)
    assert found.distances[found.chosen] == min(found.distances.values())
    assert {NOTHING, CLOSED_FORM} < set(found.distances)
    assert found.distances[CLOSED_FORM] < found.distances[NOTHING]
    columns = [column for column, d in enumerate(DESCRIPTORS) if not d.moves_with_level]
    goal = describe(wanted[None])[0].numpy()
    for strips, name in ((closed.strips, CLOSED_FORM), ((Strip(),) * len(STEMS), NOTHING)):
        made = SongRunner(strips, levels=strip_levels(strips, [stems.numpy()])).run(stems.sum(0).numpy(), stems.numpy())
        values = describe(torch.from_numpy(made[1])[None])[0].numpy()
        expected = METRIC.distances(values[None, columns], goal[columns], columns)[0]
        # it is told with four decimals: half of the last is 5e-5; descriptors of several clips at once move it less
        assert found.distances[name] == pytest.approx(expected, abs=1e-4)
    kept = search_effects(replace(task, keep=STEMS), estimate(*profiles, keep=STEMS), METRIC, evaluations=8)
    assert list(kept.distances) == [NOTHING, CLOSED_FORM]


def test_a_mix_is_heard_as_the_separator_hears_it() -> None:
    stems = stems_of(seconds=1.0)
    profiles = measure_profile([stems]), measure_profile([stems])
    heard: list[torch.Tensor] = []

    def separate(mixes: list[torch.Tensor]) -> list[torch.Tensor]:
        heard.extend(mixes)
        return [torch.stack([mix / 4] * 4) for mix in mixes]

    task = MixTask([stems], [[stems]], *profiles, 1.0, STEMS, FULL, separate)  # pyright: ignore[reportArgumentType]
    search_effects(task, estimate(*profiles, keep=STEMS), METRIC, evaluations=8)
    assert len(heard) == 2
    torch.testing.assert_close(heard[0], excerpt(stems).sum(0))


def test_correlated_descriptors_count_once() -> None:
    # two descriptors that move together by one cause: whitened, both one deviation off are one deviation
    root = np.linalg.cholesky(np.linalg.inv(np.array([[1.0, 0.999], [0.999, 1.0]])))
    metric = DescriptorMetric(np.ones(2), root)
    off = np.array([[1.0, 1.0], [1.0, -1.0], [1.0, 0.0]])
    together, against, alone = metric.distances(off, np.zeros(2), [0, 1])
    assert together == pytest.approx(np.sqrt(2 / 1.999 / 2))
    assert against == pytest.approx(np.sqrt(2 / 0.001 / 2))
    assert alone < against
    np.testing.assert_allclose(metric.distances(off[:, :1], np.zeros(1), [0]), 1.0)
