"""What an evaluation's folder keeps and what it makes again: folders of earlier versions, tasks of another version."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest
from helpers.evaluation import evaluation_of
from helpers.small_cache import make_cache
from helpers.training import settings_of

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.atomic import sha256_file
from mixstyle.cache.storage.provenance import SETTINGS, Provenance
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.mixing.versions import chain_versions
from mixstyle.stages.evaluate import provenance as module
from mixstyle.stages.evaluate.provenance import changes, prepare, provenance_of
from mixstyle.stages.evaluate.tasks.registry import TASKS
from mixstyle.stages.settings.profile import Settings

FILES = ("metrics.json", "same_chain_1.npz", "content_hard.npz", "separator_dependence.npz", "map.png")
FIRST_FORMAT = {  # settings.json as version 0.1.0 wrote it
    "version": 1,
    "stage": "evaluate",
    "fingerprint": "0123456789abcdef",
    "settings": {
        "checkpoints": [],
        "models": [],
        "songs": 200,
        "styles": 10,
        "effects": [1, 3],
        "hard_styles": 3,
        "hard_effects": 4,
        "preset_clips": 2,
        "parameter_clips": 10,
        "rendered_dir": None,
        "seed": 0,
    },
}


@dataclasses.dataclass(frozen=True)
class Asked:
    """A folder of an evaluation, and what is asked of it."""

    folder: Path
    settings: Settings
    cache: StemCache
    checkpoint: Path

    @property
    def provenance(self) -> Provenance:
        return provenance_of(self.settings, self.cache, [self.checkpoint])

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {SETTINGS}


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    make_cache(tmp_path / "stems", tracks=2, clips=2, clip_s=0.5)
    (tmp_path / "best.pt").write_bytes(b"an encoder")
    folder = tmp_path / "out"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(b"kept")
    settings = evaluation_of(settings_of(tmp_path / "run"), folder)
    return Asked(folder, settings, StemCache(tmp_path / "stems"), tmp_path / "best.pt")


def made(asked: Asked, **changed: object) -> None:
    """Writes the folder's settings.json."""
    (asked.folder / SETTINGS).write_text(json.dumps(asked.provenance.to_json() | changed))


def first_format(asked: Asked) -> None:
    """Turns the folder into one of version 0.1.0."""
    made_from = {"stems": asked.cache.fingerprint, "checkpoints": [sha256_file(asked.checkpoint)]}
    stored = {**FIRST_FORMAT, "settings": FIRST_FORMAT["settings"] | {"made_from": made_from}}  # pyright: ignore[reportOperatorIssue]
    (asked.folder / SETTINGS).write_text(json.dumps(stored))
    (asked.folder / "separator_dependence.npz").rename(asked.folder / "fingerprint.npz")


def test_a_folder_of_the_first_format_is_gone_on_with(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    first_format(asked)
    monkeypatch.setattr(module, "chain_versions", partial(chain_versions, stem_loudness=1))  # as it was then
    versions_then = {name: dataclasses.replace(task, version=1) for name, task in TASKS.items()}
    with monkeypatch.context() as patch:
        patch.setattr(module, "TASKS", versions_then)
        assert changes(asked.folder, asked.provenance) == []
    # separator-dependence cuts its clips by another rule since, the others go through the mix: they are made again
    through_mix = {"same-chain", "content-hard", "presets", "parameters"}
    assert {name for name, task in TASKS.items() if task.version != 1} == {"separator-dependence", *through_mix}
    (asked.folder / "song_retrieval.npz").write_bytes(b"kept")
    prepare(asked.folder, asked.provenance, rebuild=False)
    assert asked.names() == {"song_retrieval.npz", "map.png"}


def test_the_embeddings_of_the_first_format_get_their_new_name(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    first_format(asked)
    monkeypatch.setattr(module, "chain_versions", partial(chain_versions, stem_loudness=1))  # as it was then
    monkeypatch.setattr(module, "TASKS", {name: dataclasses.replace(task, version=1) for name, task in TASKS.items()})
    prepare(asked.folder, asked.provenance, rebuild=False)
    assert asked.names() == set(FILES)


def test_what_was_made_before_absent_stems_were_told_by_the_mix_is_made_anew(asked: Asked) -> None:
    first_format(asked)
    assert changes(asked.folder, asked.provenance) == [
        "content hard task: 1 -> 2",
        "effect versions.stem loudness: 1 -> 2",
        "parameters task: 1 -> 2",
        "presets task: 1 -> 2",
        "same chain task: 1 -> 2",
        "separator dependence task: 1 -> 2",
    ]
    prepare(asked.folder, asked.provenance, rebuild=False)
    assert asked.names() == set()


def test_of_a_task_in_another_version_alone_the_embeddings_go(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    made(asked)
    newer = dataclasses.replace(TASKS["content-hard"], version=3)
    monkeypatch.setattr(module, "TASKS", {**TASKS, "content-hard": newer})
    prepare(asked.folder, asked.provenance, rebuild=False)
    assert asked.names() == {"same_chain_1.npz", "separator_dependence.npz", "map.png"}
    (asked.folder / "content_hard.npz").write_bytes(b"made again")
    prepare(asked.folder, asked.provenance, rebuild=False)
    assert "content_hard.npz" in asked.names()


def test_other_effects_make_all_of_it_anew(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    made(asked)
    monkeypatch.setattr(module, "effect_versions", lambda: {"gain": 9})
    prepare(asked.folder, asked.provenance, rebuild=False)
    assert asked.names() == set()


def test_other_settings_are_refused_and_nothing_is_lost(asked: Asked) -> None:
    made(asked)
    changed = dataclasses.replace(asked.settings.evaluate, seed=1)
    other = dataclasses.replace(asked, settings=dataclasses.replace(asked.settings, evaluate=changed))
    with pytest.raises(MixstyleError) as caught:
        prepare(asked.folder, other.provenance, rebuild=False)
    assert caught.value.code == "stale"
    assert "evaluate.seed: 0 -> 1" in str(caught.value)
    assert asked.names() == set(FILES)
    prepare(asked.folder, other.provenance, rebuild=True)
    assert asked.names() == set()


@pytest.mark.parametrize("name", TASKS)
def test_the_names_of_a_tasks_files_begin_with_its_key(name: str) -> None:
    """So that no task's files are taken for another's."""
    assert [other for other in TASKS if TASKS[other].key.startswith(TASKS[name].key)] == [name]
