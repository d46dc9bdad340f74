"""Stores in `mixstyle doctor`: which of the profile's are measured, and what is told of them."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from helpers.file_server import Served, serve
from helpers.s3_server import BUCKET, reached, refusing, serving
from typer.testing import CliRunner

from mixstyle.cache.storage.remote_store import RemoteStore
from mixstyle.stages.cli import app
from mixstyle.stages.doctor.store import WRITTEN, store_section, stores_of
from mixstyle.stages.settings.base import LocationOrUrl
from mixstyle.stages.settings.profile import Settings, load_settings

STORE = f"s3://{BUCKET}/stems"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


def report(*words: str) -> dict:
    given = ("doctor", "--json", *words)
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.exception
    return json.loads(result.output)


def test_one_place_of_each_store_is_measured_and_written_where_commands_write() -> None:
    set_ = (
        *("separate.data_path=s3://music/songs", "separate.stems_dir=s3://mixes/stems"),
        *("features.features_path=s3://mixes/features.zarr", "train.stems_url=https://host/stems"),
        *("train.checkpoint_dir=s3://music/run",),
    )
    assert stores_of(load_settings("cpu", set_)) == {
        "s3://music/run": True,
        "s3://mixes/stems": True,
        "https://host/stems": False,
    }
    assert stores_of(load_settings("cpu")) == {}


def test_every_setting_of_a_place_is_known_to_be_written_or_read() -> None:
    read = {"separate.data_path", "train.start_from", "report.checkpoint", "evaluate.checkpoints", "embed.encoder"}
    places = set()
    for section in dataclasses.fields(Settings):
        kind = get_type_hints(Settings)[section.name]
        hints = get_type_hints(kind, include_extras=True) if dataclasses.is_dataclass(kind) else {}
        places |= {f"{section.name}.{name}" for name, hint in hints.items() if "_path_or_url" in str(hint)}
    assert places == WRITTEN | read
    assert "_path_or_url" in str(LocationOrUrl)


def test_the_store_of_the_profile_and_a_named_one_are_told(server: str, tmp_path: Path) -> None:
    folder = ("--config", "cpu", "--folder", str(tmp_path))
    found = report(*folder, "--set", f"separate.stems_dir={STORE}", "--set", f"embed.index_dir={STORE}/index")
    (url,) = found["sections"]["store"]
    assert url == STORE
    speeds = found["sections"]["store"][url]
    assert min(speeds[name] for name in ("write_mb_per_s", "read_mb_per_s", "round_trip_ms")) > 0
    assert RemoteStore(STORE).listed() == {}
    assert set(report(*folder, "--store", f"{STORE}/other")["sections"]["store"]) == {f"{STORE}/other"}


def test_what_is_only_read_is_told_where_commands_write(server: str) -> None:
    with reached(server, only_read=True):
        (problem,) = store_section([(STORE, True)]).problems
        assert STORE in problem.what
        assert store_section([(STORE, False)]).problems == ()
    with serve(Served(bytes(1000))) as web:
        found = store_section([(web.url, True)])
        assert all(request["path"] != "PUT" for request in web.asked)
    assert set(found.facts[web.url]) == {"measured_with_bytes", "read_mb_per_s", "round_trip_ms"}


def test_a_store_that_is_down_is_a_line_and_a_remedy(server: str) -> None:
    with refusing() as down, reached(down):
        (problem,) = store_section([(STORE, True)]).problems
    assert STORE in problem.what
    assert "\n" not in problem.what
    assert problem.remedy.endswith(f"mixstyle doctor --store {STORE}")


def test_what_is_no_url_is_refused() -> None:
    result = CliRunner().invoke(app, ["doctor", "--store", "cache/stems"])
    assert getattr(result.exception, "code", "") == "bad-option"
