"""What stems would be made with now, as `status` compares it: equal to what the loaded separator tells, and without
torch where nothing has changed."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.small_separator import profile, write_separator, write_songs

from mixstyle.cache.models.separator_records import SeparatorRecord
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.features.stage import features
from mixstyle.stages.remix.stage import remix
from mixstyle.stages.separate.current_separator import device_type_of, separator_now, streams_now
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.separate.tuned_streams import choose_streams, device_of
from mixstyle.stages.settings.profile import Settings, plain
from mixstyle.stages.status import status

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
ALONE = """
import json, sys
from mixstyle.stages.settings.profile import from_plain
from mixstyle.stages.status import status
found = status(from_plain(json.loads(sys.argv[1])))
print(*(found[name].state for name in ("separate", "remix", "features")))
print(*(name for name in ("torch", "pandas", "pyarrow", "matplotlib") if name in sys.modules))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Stems, a bank of another separator too, and their descriptors; made while `XDG_CACHE_HOME` is beside them."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "xdg"))
        settings = profile(folder, write_songs(folder / "music", 4), validation_fraction=0.0, test_fraction=0.0)
        bank = dataclasses.replace(
            settings.remix,
            **{"remix_dir": folder / "remix", "features_path": folder / "remix.zarr", "device": "cpu", "threads": 1},
            **{"blocks": 2, "contents": 2, "chains_per_block": 1, "clip_s": 0.5, "num_overlap": 1, "batch_chunks": 1},
            separators=(write_separator(folder / "other", seed=1),),
        )
        store = dataclasses.replace(settings.features, features_path=folder / "features.zarr", device="cpu")
        nowhere = {"train": ("checkpoint_dir", "log_dir"), "report": ("report_dir",), "evaluate": ("evaluate_dir",)}
        rest = {
            section: dataclasses.replace(getattr(settings, section), **dict.fromkeys(names, folder / "none"))
            for section, names in {**nowhere, "embed": ("index_dir",), "demo_songs": ("output_dir",)}.items()
        }
        settings = dataclasses.replace(settings, remix=bank, features=store, **rest)
        separate(settings)
        remix(settings)
        features(settings)
    return settings


@pytest.fixture(autouse=True)
def _cache(made: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(made.separate.stems_dir.parent / "xdg"))


def states_alone(settings: Settings) -> list[str]:
    """What a process of its own prints: states, and libraries that it has loaded."""
    paths = os.pathsep.join(path for path in sys.path if path)
    ran = subprocess.run(
        [sys.executable, "-P", "-c", ALONE, json.dumps(plain(settings))],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.splitlines()[-2:]


def test_without_torch_where_nothing_has_changed(made: Settings) -> None:
    status(made)  # the first look loads the separators, and keeps what they are known by
    assert states_alone(made) == ["done done done", ""]


def test_other_weights_are_noticed_at_every_look(made: Settings, tmp_path: Path) -> None:
    """Files of the same names and sizes, written since."""
    config, checkpoint = write_separator(tmp_path, seed=2)
    before = checkpoint.read_bytes()
    checkpoint.write_bytes(made.separate.separator_checkpoint.read_bytes())
    chosen = dataclasses.replace(made.separate, separator_config=config, separator_checkpoint=checkpoint)
    settings = dataclasses.replace(made, separate=chosen)
    assert (status(settings)["separate"].state, status(settings)["remix"].state) == ("done", "done")
    assert len(before) == checkpoint.stat().st_size
    times = checkpoint.stat()
    checkpoint.write_bytes(before)
    os.utime(checkpoint, ns=(times.st_atime_ns, times.st_mtime_ns))
    for _ in range(2):
        found = status(settings)
        assert (found["separate"].state, found["remix"].state) == ("stale", "stale")
        assert any("separator" in problem for problem in found["separate"].problems)


@pytest.mark.parametrize("num_overlap", [None, 1])
def test_as_the_loaded_separator_tells_it(made: Settings, num_overlap: int | None) -> None:
    chosen = dataclasses.replace(made.separate, num_overlap=num_overlap)
    separator = configured_separator(chosen, CPU)
    assert separator is not None
    for _ in range(2):  # loaded, and known
        record = separator_now(chosen)
        assert record == SeparatorRecord.of(separator)
        assert device_type_of(chosen) == device_of(chosen).type
        wanted = choose_streams(chosen, separator, CPU, measure=False)
        found = streams_now(chosen, record, "cpu")
        assert (found.threads_per_stream, found.batch_chunks) == (wanted.threads_per_stream, wanted.batch_chunks)
        assert found.lstm_kernel == wanted.lstm_kernel


def test_what_cannot_be_loaded_is_refused_as_by_separate(made: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    chosen = dataclasses.replace(made.separate, separator_checkpoint=tmp_path / "a.safetensors")
    for _ in range(2):  # nothing is kept of it
        with pytest.raises(MixstyleError) as found:
            separator_now(chosen)
        assert found.value.code == "damaged-file"
    gone = dataclasses.replace(made.separate, separator_checkpoint=tmp_path / "none.safetensors")
    with pytest.raises(MixstyleError) as found:
        separator_now(gone)
    assert found.value.code == "not-found"
