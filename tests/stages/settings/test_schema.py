"""The schema that editors read is that of the settings, and takes the profiles that are shipped."""

import json
from typing import Any

import jsonschema
import pytest
import yaml
from helpers.paths import ROOT

from mixstyle.stages.settings.base import fields_of
from mixstyle.stages.settings.profile import SECTIONS
from mixstyle.stages.settings.schema import schema

STORED = ROOT / "configs" / "schema.json"
PROFILES = sorted((ROOT / "configs").glob("*.yaml"))


def complaints(data: Any) -> list[str]:
    """Where the stored schema refuses data, as section.name."""
    checker = jsonschema.Draft202012Validator(json.loads(STORED.read_text()))
    return [".".join(map(str, error.absolute_path)) for error in checker.iter_errors(data)]


def test_the_stored_schema_is_that_of_the_settings() -> None:
    assert json.loads(STORED.read_text()) == schema(), "python -m mixstyle.stages.settings.schema > configs/schema.json"


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_fits_the_schema_that_it_names(path: Any) -> None:
    first, _, _ = path.read_text().partition("\n")
    assert first == f"# yaml-language-server: $schema={STORED.name}"
    assert complaints(yaml.safe_load(path.read_text())) == []


def test_the_schema_refuses_what_the_settings_refuse() -> None:
    assert complaints({"train": {"max_step": 3}}) == ["train"]
    assert complaints({"trains": {}}) == [""]
    assert complaints({"train": {"batch_size": 1}}) == ["train.batch_size"]
    assert complaints({"train": {"device": "tpu"}}) == ["train.device"]
    assert complaints({"train": {"channels": [1]}}) == ["train.channels"]
    assert complaints({"separate": {"precision": "fp8"}}) == ["separate.precision"]
    assert complaints({"separate": {"tracks_csv": None, "devices": ["cuda:0", "cuda:1"]}}) == []


def test_the_schema_tells_of_every_setting() -> None:
    made = schema()
    for section, cls in SECTIONS.items():
        part = made["$defs"][made["properties"][section]["$ref"].rpartition("/")[2]]
        assert set(part["properties"]) == set(fields_of(cls))
        assert all("description" in value and "default" in value for value in part["properties"].values())
