"""The settings of evaluations: the tasks' names, and names of earlier versions."""

from pathlib import Path

import pytest

from mixstyle.stages.evaluate.tasks.registry import TASKS
from mixstyle.stages.settings.evaluate import EVALUATION_TASKS
from mixstyle.stages.settings.profile import load_settings

OLD = """
evaluate:
  parts: [same-chain, fingerprint]
  rendered_dir: data/demo
  styles: 40
  hard_styles: 7
"""


def test_every_task_of_the_registry_can_be_asked_for() -> None:
    assert set(EVALUATION_TASKS) == set(TASKS)


def test_names_of_earlier_versions_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.yaml").write_text(OLD)
    options = load_settings(tmp_path / "old.yaml").evaluate
    assert options.tasks == ("same-chain", "separator-dependence")
    assert (options.chains, options.hard_chains) == (40, 7)
    said = capsys.readouterr()
    for name in ("evaluate.parts", "evaluate.styles", "evaluate.hard_styles"):
        assert name in said.out + said.err
