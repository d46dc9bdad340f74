"""`--rebuild-stale`, which dvc.yaml gives to its stages: after a change, what depends on it is made again, no more."""

import shlex
from pathlib import Path

import pytest
import typer
import yaml
from helpers.paths import ROOT
from helpers.small_cache import make_cache
from helpers.training import CLIP_S, profile
from typer.core import TyperGroup

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cli import app
from mixstyle.stages.cli_options import made_by


def test_every_stage_of_dvc_rebuilds_what_is_stale() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for name, stage in stages.items():
        commands = stage["cmd"] if isinstance(stage["cmd"], list) else [stage["cmd"]]
        program, command, *options = shlex.split(commands[-1])
        assert (program, command) == ("mixstyle", name)
        assert "--rebuild-stale" in options
        assert [words.split()[0] for words in commands[:-1]] in ([], ["mkdir"])
        known = {option for parameter in group.commands[name].params for option in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= known


def test_what_is_stale_is_made_anew_and_what_fits_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    make_cache(tmp_path / "stems", tracks=4, clips=2, clip_s=CLIP_S, validation=2)
    words = ["features", "--config", str(profile(tmp_path / "run")), "--rebuild-stale"]

    def run() -> str:
        result = CliRunner().invoke(app, words)
        assert result.exception is None, result.output
        return result.output

    run()
    store = tmp_path / "features.zarr"
    made = FeatureStore.open(store).fingerprint
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    run()
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == before
    (tmp_path / "stems").rename(tmp_path / "others")
    make_cache(tmp_path / "stems", tracks=4, clips=2, clip_s=CLIP_S, validation=1)
    assert "made again" in run()
    assert FeatureStore.open(store).fingerprint != made


@pytest.mark.parametrize(
    ("code", "remedy"), [("misfit", ("train", "--rebuild")), ("stale", ("features", "--rebuild")), ("stale", ())]
)
def test_nothing_else_is_thrown_away(code: str, remedy: tuple[str, ...]) -> None:
    asked: list[bool] = []

    def stage(rebuild: bool) -> None:
        asked.append(rebuild)
        raise MixstyleError("x", code=code, remedy=remedy)  # type: ignore[arg-type]

    with pytest.raises(MixstyleError):
        made_by(stage, "train", False, True)
    assert asked == [False]
