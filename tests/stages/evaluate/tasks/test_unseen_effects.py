"""Unseen effects: chains that are drawn as told, and a package that is missing, of another version, or fails."""

import json
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.evaluation import songs_without_audio
from helpers.small_cache import stems_of

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.mixing.effects import EFFECTS as OWN
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.stages.evaluate.tasks import multiafx_effects as module
from mixstyle.stages.evaluate.tasks.multiafx_effects import (
    EFFECTS,
    WHOLE,
    UnseenChain,
    UnseenEffect,
    check_package,
    draw_unseen,
)
from mixstyle.stages.evaluate.tasks.task import Cut
from mixstyle.stages.evaluate.tasks.unseen_effects import unseen_effects
from mixstyle.stages.settings.evaluate import EvaluateSettings


@pytest.fixture(autouse=True)
def _ask_again() -> None:
    check_package.cache_clear()


def test_chains_are_within_the_ranges_and_change_category() -> None:
    assert len(EFFECTS) == 29
    assert not set(EFFECTS) & set(OWN)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        chain = draw_unseen(rng, 4)
        categories = [EFFECTS[effect.name][0] for effect in chain]
        assert all(one != other for one, other in pairwise(categories))
        for effect in chain:
            seen.add(effect.name)
            ranges = EFFECTS[effect.name][1]
            assert set(effect.parameters) == set(ranges)
            for name, value in effect.parameters.items():
                assert ranges[name].low <= value <= ranges[name].high
                assert name not in WHOLE or value == round(value)
    assert seen == set(EFFECTS)


def test_query_and_right_answer_share_all_but_the_song() -> None:
    options = EvaluateSettings(unseen_chains=12, unseen_effects=4)
    part = unseen_effects(SimpleNamespace(options=options, cut=Cut(1000, 400), songs=songs_without_audio()))  # pyright: ignore[reportArgumentType]
    assert part.way == "through-mix"
    queries, pool = part.items[:12], part.items[12:]
    assert [item.steps for item in queries] == [item.steps for item in pool]
    assert all(a != b for a, b in zip(part.songs[:12], part.songs[12:], strict=True))
    before, chain, after = queries[0].steps
    assert isinstance(before, MixChain)
    assert isinstance(after, MixChain)
    assert isinstance(chain, UnseenChain)
    assert [len(each) for each in chain.stems] == [4] * 4
    assert len(before.stem_lufs) == 4
    assert after.mix_lufs == -14
    json.dumps(queries[0].to_json())


def test_a_package_that_is_not_there_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module._package.cache_clear()
    monkeypatch.setitem(sys.modules, "multiafx", None)
    with pytest.raises(MixstyleError) as caught:
        check_package()
    module._package.cache_clear()
    assert caught.value.code == "no-package"
    assert f"uv pip install multiafx=={module.VERSION}" in str(caught.value)


class Fake:
    """A package with the table's effects, each of which can be made to misbehave."""

    def __init__(self) -> None:
        found = {}
        for name, (category, ranges) in EFFECTS.items():
            told = {k: SimpleNamespace(min_val=r.low, max_val=r.high, log_scale=r.log) for k, r in ranges.items()}
            found[name] = SimpleNamespace(param_ranges=told, macro_category=SimpleNamespace(value=category))
        self.effects, self.registry = found, self

    def __contains__(self, name: str) -> bool:
        return name in self.effects

    def get(self, name: str) -> SimpleNamespace:
        return self.effects[name]

    def apply_chain(self, audio: np.ndarray, rate: int, chain: list[dict]) -> np.ndarray:
        if self.effects[chain[0]["effect"]].__dict__.get("fails"):
            raise RuntimeError("no such filter")
        return audio * np.float32(0.5)


def test_an_effect_that_is_missing_drawn_otherwise_or_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "sci_notch_iir"
    for spoil in ("missing", "range", "fails"):
        fake = Fake()
        monkeypatch.setattr(module, "_package", lambda fake=fake: fake)
        check_package.cache_clear()
        check_package()
        check_package.cache_clear()
        if spoil == "missing":
            del fake.effects[name]
        elif spoil == "range":
            fake.effects[name].param_ranges["Q"].max_val = 31.0
        else:
            fake.effects[name].fails = True
        with pytest.raises(MixstyleError) as caught:
            check_package()
        assert caught.value.code == "misfit"
        assert name in str(caught.value)


def test_each_stem_gets_its_own_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_package", Fake)
    stems = stems_of(0, 0.1)
    gain = UnseenEffect("ta_gain", {"gain_db": -6.0})
    out = UnseenChain(((), (gain,), (gain, gain), ())).apply(stems)
    np.testing.assert_array_equal(out, stems * np.array([1, 0.5, 0.25, 1], np.float32)[:, None, None])


def test_the_installed_package_is_that_of_the_table() -> None:
    module._package.cache_clear()
    check_package()
    for name in module.UNUSED:
        assert sys.modules.get(name, sys) is not None, "what was hidden is hidden no longer"
