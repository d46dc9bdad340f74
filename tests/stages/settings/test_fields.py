"""Every setting has help, and every number a unit."""

import dataclasses
import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.stages.evaluate.provenance import LATER as EVALUATE_LATER
from mixstyle.stages.settings.base import fields_of, marks, shaping
from mixstyle.stages.settings.profile import SECTIONS, Settings
from mixstyle.stages.settings.renamed import NAMES
from mixstyle.stages.settings.separate import SeparateSettings

UNITS_IN_NAMES = ("_s", "_db", "_lufs", "_gb", "_steps")
FIELDS = [(section, name) for section, cls in SECTIONS.items() for name in fields_of(cls)]


def kinds(annotation: Any) -> set[Any]:
    """The types inside an annotation: {int, NoneType} of `int | None`, {float} of `tuple[float, ...]`."""
    parts = get_args(annotation)
    return set().union(*map(kinds, parts)) if parts else {annotation}


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_a_setting_has_help_and_a_number_a_unit(section: str, name: str) -> None:
    field = fields_of(SECTIONS[section])[name]
    assert field.description, "a line below the field"
    assert field.description.strip().endswith((".", ")"))
    if kinds(field.annotation) & {int, float}:
        assert name.endswith(UNITS_IN_NAMES) or marks(field).get("unit")
        assert field.metadata, "bounds"


def test_sections_are_strict_and_frozen() -> None:
    with pytest.raises(ValidationError):
        SeparateSettings(clip_s="ten")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValidationError):
        SeparateSettings(clips=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValidationError):
        dataclasses.replace(SeparateSettings(), clip_s=-1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SeparateSettings().clip_s = 3.0  # pyright: ignore[reportAttributeAccessIssue]


LATER = {"channel_pairs", "descriptor_share", "descriptor_skip", "input_lufs", "part_s", "pooling"}
"""Settings of training that came after 0.1; tests of its stages hold that folders without them are still taken."""


@pytest.mark.parametrize(
    ("section", "stored"),
    [
        ("demo_songs", "2ae204f46a207657"),
        ("separate", "80ab167394c9a48d"),
        ("features", "44136fa355b3678a"),
        ("train", "d9c09b97d81bdc3f"),
        ("report", "e3d2adc7b02937fa"),
        ("evaluate", "be8cd2888a720567"),
        ("embed", "44136fa355b3678a"),
    ],
)
def test_what_shapes_outputs_is_what_version_0_1_stored(section: str, stored: str) -> None:
    # fingerprints of the default settings, computed by mixstyle 0.1 with the lists and the names that its stages had
    then = {now: old.partition(".")[2] for old, now in NAMES.items()}
    later = EVALUATE_LATER if section == "evaluate" else LATER
    shaped = {name: value for name, value in shaping(getattr(Settings(), section)).items() if name not in later}
    if section == "evaluate":  # fewer numbers of effects by default
        shaped["effects"] = list(range(1, 9))
    assert fingerprint({then.get(f"{section}.{name}", name): value for name, value in shaped.items()}) == stored


def test_what_shapes_outputs_depends_on_the_input() -> None:
    stems = shaping(SeparateSettings(input="stems"))
    assert "precision" not in stems
    assert fingerprint({**stems, "input": "mixtures"}) == "2f6406e107353932"


def test_what_shapes_an_embedding_is_what_version_0_1_stored() -> None:
    assert fingerprint(shaping(SeparateSettings(), of="embedding")) == "21a7bb16188de747"


@pytest.mark.parametrize("words", ["--help", "--version", "train --help"])
def test_help_waits_for_nothing_heavy(words: str) -> None:
    script = (
        "import sys; sys.argv = ['mixstyle', *sys.argv[1:]]\n"
        "from mixstyle.stages.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print('imported:', *sys.modules)"
    )
    command = [sys.executable, "-c", script, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert "mixstyle.stages.cli" in imported
    assert not imported & {"torch", "numpy", "asyncio", "ssl", "mixstyle.stages.settings.profile"}
    if words != "train --help":  # for a command's options typer itself has come to use pydantic
        assert "pydantic" not in imported
