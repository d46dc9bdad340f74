"""Reports and evaluations kept behind s3://, on a real server on loopback: the files of a folder, from any machine."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from helpers.evaluation import evaluation_of, trained_on_songs
from helpers.s3_server import BUCKET, objects, reached, refusing, serving

from mixstyle.cache.storage.remote_folder import RemoteFolder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.evaluate import stage as evaluate_stage
from mixstyle.stages.evaluate.stage import evaluate
from mixstyle.stages.evaluate.status import evaluate_status
from mixstyle.stages.evaluate.tasks import task as task_module
from mixstyle.stages.export import export
from mixstyle.stages.report.stage import report
from mixstyle.stages.report.status import report_status
from mixstyle.stages.settings.places import open_shards
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.verify import verify

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
TASKS = ("stems-content-hard", "content-hard")
"""As processed, and through the mix."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(scope="module")
def trained(server: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A training in a folder, whose files are behind s3://BUCKET/run too."""
    folder = tmp_path_factory.mktemp("trained")
    settings = trained_on_songs(folder)
    sent = RemoteFolder(f"s3://{BUCKET}/run", folder / "sent")
    sent.fetch()
    shutil.copytree(settings.train.checkpoint_dir, sent.folder, dirs_exist_ok=True)
    sent.send()
    return settings


def on_machine(settings: Settings, folder: Path, prefix: str) -> Settings:
    """A machine that has the stems and the training, and keeps reports and evaluations behind a URL."""
    url = Path(f"s3://{BUCKET}/{prefix}")
    evaluation = evaluation_of(settings, url / "evaluation", tasks=TASKS, hard_songs=2)
    return dataclasses.replace(
        evaluation,
        report=dataclasses.replace(settings.report, report_dir=url / "report", device="cpu"),
        evaluate=dataclasses.replace(evaluation.evaluate, bank_dir=url / "banks"),
        train=dataclasses.replace(settings.train, stems_cache_dir=folder),
    )


def kept(url: str, folder: Path) -> dict[str, bytes]:
    """The files that the last manifest names."""
    RemoteFolder(url, folder).fetch()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}


def damage(prefix: str, name: str) -> None:
    """Flips a bit of the object of a file that the last manifest names."""
    manifest = json.loads(objects(prefix)[max(key for key in objects(prefix) if key.startswith("manifest-"))])
    stem, _, suffix = name.rpartition(".")
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    path = f"{BUCKET}/{prefix}/{stem}.{manifest['files'][name]['sha256'][:16]}.{suffix}"
    data = bytearray(fs.cat_file(path))
    data[len(data) // 2] ^= 4
    fs.pipe_file(path, bytes(data))


def test_a_report_is_that_of_a_folder_and_is_made_again_where_it_is_damaged(trained: Settings, tmp_path: Path) -> None:
    from mixstyle.cache.feature_store.store import FeatureStore
    from mixstyle.cache.stem_store.stem_cache import StemCache

    cache, store = StemCache(trained.separate.stems_dir), FeatureStore.open(trained.features.features_path)
    local = dataclasses.replace(trained, report=dataclasses.replace(trained.report, report_dir=tmp_path / "here"))
    there = on_machine(trained, tmp_path / "cache", "pages")
    url, elsewhere = f"s3://{BUCKET}/pages/report", on_machine(trained, tmp_path / "other", "pages")
    assert report_status(elsewhere, cache, store).state == "not started"
    report(local)
    report(there)
    expected = files(tmp_path / "here")
    assert kept(url, tmp_path / "first") == expected
    assert {name: objects("pages/report")[name] for name in ("report.html", "metrics.json")} == {
        name: expected[name] for name in ("report.html", "metrics.json")
    }
    assert report_status(elsewhere, cache, store).state == "done"
    before = objects("pages/report")
    report(elsewhere)
    assert objects("pages/report") == before, "equal inputs give equal files, and nothing is sent"

    for name in ("metrics.json", "map.png"):
        damage("pages/report", name)
    assert report_status(elsewhere, cache, store).state == "done", "it has a copy that is whole"
    assert report_status(on_machine(trained, tmp_path / "new", "pages"), cache, store).state == "damaged"
    found = verify(there, repair=True)
    assert sorted((one.path.name, one.repaired) for one in found.damages) == [("map.png", True), ("metrics.json", True)]
    report(there)
    assert kept(url, tmp_path / "second") == expected
    assert verify(elsewhere).damages == ()

    card = export(there, tmp_path / "there.safetensors").read_bytes()
    assert card == export(local, tmp_path / "here.safetensors").read_bytes(), "it names the report's figures"
    with refusing() as down, reached(down):
        with pytest.raises(MixstyleError) as caught:
            report(there)
        assert (caught.value.code, url in caught.value.message) == ("remote", True)
        assert report_status(there, cache, store).state == "cannot be read"
    assert kept(url, tmp_path / "third") == expected


def test_a_report_on_a_checkpoint_behind_a_url(trained: Settings, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/run/best_model.pt"
    figures = []
    for name, checkpoint in (("here", None), ("there", Path(url))):
        chosen = dataclasses.replace(trained.report, report_dir=tmp_path / name, checkpoint=checkpoint)
        settings = dataclasses.replace(
            trained,
            report=chosen,
            train=dataclasses.replace(trained.train, stems_cache_dir=tmp_path / "cache"),
        )
        report(settings)
        figures.append(files(tmp_path / name))
    assert url in figures[1].pop("report.html").decode()
    del figures[0]["report.html"]
    assert figures[0] == figures[1]
    assert "loss.png" in figures[1], "the losses beside it were fetched too"


def test_an_evaluation_is_gone_on_with_on_another_machine(
    trained: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = evaluation_of(trained, tmp_path / "here", tasks=TASKS, hard_songs=2)
    metrics = evaluate(here)
    url = f"s3://{BUCKET}/known/evaluation"
    first, second, third = (on_machine(trained, tmp_path / name, "known") for name in ("one", "two", "three"))
    cache = open_shards(first, first.separate.stems_dir)
    assert evaluate_status(first, cache).state == "not started"

    with monkeypatch.context() as patch:
        measured: list[str] = []
        embedded = evaluate_stage.embedded  # pyright: ignore[reportPrivateImportUsage]

        def stopped(*arguments: object) -> object:
            if measured:
                raise KeyboardInterrupt
            measured.append("one part")
            return embedded(*arguments)  # type: ignore[arg-type]

        patch.setattr(evaluate_stage, "embedded", stopped)
        with pytest.raises(KeyboardInterrupt):
            evaluate(first)
    part = kept(url, tmp_path / "begun")
    assert sorted(part) == ["settings.json", "stems_content_hard.npz"]
    assert evaluate_status(third, cache).state == "partly done"

    assert evaluate(second) == metrics
    ended, expected = kept(url, tmp_path / "ended"), files(tmp_path / "here")
    assert ended["stems_content_hard.npz"] == part["stems_content_hard.npz"], "it was not measured again"
    assert ended.keys() == expected.keys()
    for name in ("metrics.json", "settings.json", "evaluation.html"):
        assert ended[name] == expected[name], name
    assert objects("known/evaluation")["evaluation.html"] == expected["evaluation.html"]
    assert evaluate_status(third, cache).state == "done"

    damage("known/evaluation", "content_hard.npz")
    found = verify(third, repair=True)
    assert [(one.path.name, one.repaired) for one in found.damages] == [("content_hard.npz", True)]
    monkeypatch.setattr(task_module, "apply_mix_chain", None)  # its bank is there: nothing is rendered
    assert evaluate(third) == metrics
    assert verify(first).damages == ()
    assert any(name.startswith("stems-000000.") and name.endswith(".tar") for name in objects("known/banks"))


def test_other_settings_are_refused_or_measured_anew_and_an_encoder_is_named_by_url(
    trained: Settings, tmp_path: Path
) -> None:
    settings = on_machine(trained, tmp_path / "one", "other")
    asked = dataclasses.replace(
        settings.evaluate, tasks=("songs",), checkpoints=(Path(f"s3://{BUCKET}/run/best_model.pt"),)
    )
    first = dataclasses.replace(settings, evaluate=asked)
    metrics = evaluate(first)
    assert metrics["rows"][0] == "best_model"
    cache = open_shards(first, first.separate.stems_dir)
    assert evaluate_status(first, cache).state == "done"
    other = dataclasses.replace(
        first,
        evaluate=dataclasses.replace(asked, seed=1),
        train=dataclasses.replace(first.train, stems_cache_dir=tmp_path / "two"),
    )
    with pytest.raises(MixstyleError) as caught:
        evaluate(other)
    assert caught.value.code == "stale"
    assert evaluate(first) == metrics, "what was refused has changed nothing"
    evaluate(other, rebuild=True)
    assert evaluate_status(other, cache).state == "done"
    assert evaluate_status(first, cache).state == "stale"
    with refusing() as down, reached(down):
        assert evaluate_status(first, cache).state == "cannot be read"
        with pytest.raises(MixstyleError) as caught:
            evaluate(first)
        assert caught.value.code == "remote"
