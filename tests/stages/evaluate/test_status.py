"""What `mixstyle status` tells of an evaluation."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.evaluation import evaluation_of
from helpers.mixed_cache import make_stems, settings_of
from helpers.numbers import numbers

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.stages.evaluate.provenance import METRICS, prepare, provenance_of
from mixstyle.stages.evaluate.status import evaluate_status
from mixstyle.stages.settings.profile import Settings


@pytest.fixture
def evaluated(tmp_path: Path) -> tuple[Settings, StemCache]:
    """Stems, a checkpoint of three bytes, and the files of an evaluation that was made from them."""
    make_stems(tmp_path / "stems", shards=4)
    settings = evaluation_of(settings_of(tmp_path), tmp_path / "evaluation")
    cache = StemCache(settings.separate.stems_dir)
    settings.train.checkpoint_dir.mkdir()
    checkpoint = settings.train.checkpoint_dir / "best_model.pt"
    checkpoint.write_bytes(b"one")
    settings.evaluate.evaluate_dir.mkdir()
    prepare(settings.evaluate.evaluate_dir, provenance_of(settings, cache, [checkpoint]), rebuild=False)
    write_metrics(settings, "same_chain", "content_hard")
    return settings, cache


def write_metrics(settings: Settings, *tasks: str) -> None:
    content = {"version": 3, "songs": 4, "rows": [], **{task: {} for task in tasks}}
    (settings.evaluate.evaluate_dir / METRICS).write_text(json.dumps(content))


def test_an_evaluation_is_done_left_or_not_begun(evaluated: tuple[Settings, StemCache], tmp_path: Path) -> None:
    settings, cache = evaluated
    found = evaluate_status(settings, cache)
    assert (found.state, found.run, found.optional) == ("done", "", True)
    assert numbers(found.done)[-3:] == [2, 2, 4], "tasks and songs"
    write_metrics(settings, "same_chain")
    found = evaluate_status(settings, cache)
    assert (found.state, found.run) == ("partly done", "mixstyle evaluate")
    (left,) = found.problems
    assert ("content-hard" in left, "same-chain" in left) == (True, False)
    (settings.evaluate.evaluate_dir / METRICS).unlink()
    assert evaluate_status(settings, cache).state == "partly done"
    (settings.evaluate.evaluate_dir / METRICS).write_text("{")
    assert evaluate_status(settings, cache).state == "damaged"
    found = evaluate_status(evaluation_of(settings, tmp_path / "none"), cache)
    assert (found.state, found.run) == ("not started", "mixstyle evaluate")


def test_a_changed_setting_is_named_and_needs_a_rebuild(evaluated: tuple[Settings, StemCache]) -> None:
    settings, cache = evaluated
    options = dataclasses.replace(settings.evaluate, chains=11)
    found = evaluate_status(dataclasses.replace(settings, evaluate=options), cache)
    assert (found.state, found.run) == ("stale", "mixstyle evaluate --rebuild")
    assert "evaluate.chains: 10 -> 11" in found.problems[0]


def test_another_checkpoint_is_measured_anew_without_rebuild(evaluated: tuple[Settings, StemCache]) -> None:
    settings, cache = evaluated
    (settings.train.checkpoint_dir / "best_model.pt").write_bytes(b"two")
    found = evaluate_status(settings, cache)
    assert (found.state, found.run) == ("stale", "mixstyle evaluate")
    assert "encoders" in found.problems[0]


def test_what_cannot_be_compared_is_told(evaluated: tuple[Settings, StemCache]) -> None:
    settings, cache = evaluated
    found = evaluate_status(settings, None)
    (problem,) = found.problems
    assert (found.state, found.run, "stems" in problem) == ("done", "", True)
    checkpoint = settings.train.checkpoint_dir / "best_model.pt"
    checkpoint.unlink()
    found = evaluate_status(settings, cache)
    (problem,) = found.problems
    assert (found.state, found.run, str(checkpoint) in problem) == ("done", "", True)


def test_tasks_that_need_a_separator_are_not_left_where_there_is_none(evaluated: tuple[Settings, StemCache]) -> None:
    settings, cache = evaluated
    options = dataclasses.replace(settings.evaluate, tasks=(*settings.evaluate.tasks, "robustness"))
    mixtures = dataclasses.replace(settings, evaluate=options)
    (left,) = evaluate_status(mixtures, cache).problems
    assert [name for name in (*settings.evaluate.tasks, "robustness") if name in left] == ["robustness"]
    stems = dataclasses.replace(mixtures, separate=dataclasses.replace(settings.separate, input="stems"))
    assert evaluate_status(stems, cache).state == "done"


@pytest.mark.slow
def test_the_tasks_versions_are_read_without_what_measures_and_draws() -> None:
    code = """import sys, mixstyle.stages.evaluate.provenance
print(*(name for name in ("sklearn", "matplotlib", "pandas") if name in sys.modules))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
