"""Every number of a setting or an option has a least and a most; what lies beyond is refused in a line."""

import ast
import itertools
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import annotated_types
import pytest
import typer.main
import typer.testing
from helpers.paths import ROOT
from pydantic.fields import FieldInfo
from typer.models import OptionInfo
from typer.testing import CliRunner

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cli import app
from mixstyle.stages.common import limits
from mixstyle.stages.settings.base import fields_of
from mixstyle.stages.settings.profile import SECTIONS, Settings, load_settings, plain

ABSURD = (str(10**23), str(-(10**23)), "1.0e+23", "1e23", ".nan", ".inf", "-.inf", "9" * 5000)
"""As YAML has them."""
TYPED = (str(10**23), str(-(10**23)), "1e23", "nan", "inf", "-inf", "9" * 5000)
"""As an option has them."""


def numbers_in(annotation: Any, metadata: tuple[Any, ...]) -> Iterator[tuple[type, list[Any]]]:
    """The kinds of numbers in an annotation, each with all that bounds it."""
    if annotation in (int, float):
        yield (
            annotation,
            [m for m in metadata if isinstance(m, annotated_types.Interval | annotated_types.Ge)]
            + [m for m in metadata if isinstance(m, annotated_types.Gt | annotated_types.Lt | annotated_types.Le)],
        )
        return
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        own = [m for part in more for m in (part.metadata if isinstance(part, FieldInfo) else [part])]
        yield from numbers_in(inner, (*metadata, *own))
        return
    for part in get_args(annotation):
        yield from numbers_in(part, metadata)


NUMERIC = [
    (section, name, field)
    for section, cls in SECTIONS.items()
    for name, field in fields_of(cls).items()
    if list(numbers_in(field.annotation, tuple(field.metadata)))
]
IDS = [f"{section}.{name}" for section, name, _ in NUMERIC]


def test_the_walk_finds_the_settings_that_are_numbers() -> None:
    assert len(NUMERIC) > 80
    assert {"separate.clip_s", "train.channels", "train.input_lufs", "remix.num_overlap", "evaluate.effects"} < set(IDS)


@pytest.mark.parametrize(("section", "name", "field"), NUMERIC, ids=IDS)
def test_a_number_has_a_least_and_a_most(section: str, name: str, field: FieldInfo) -> None:
    for _, bounds in numbers_in(field.annotation, tuple(field.metadata)):
        assert any(isinstance(bound, annotated_types.Ge | annotated_types.Gt) for bound in bounds), "ge or gt"
        assert any(isinstance(bound, annotated_types.Le | annotated_types.Lt) for bound in bounds), "le or lt"


@pytest.mark.parametrize(("section", "name", "field"), NUMERIC, ids=IDS)
def test_numbers_beyond_all_sense_are_refused_by_name(section: str, name: str, field: FieldInfo) -> None:
    several = isinstance(field.default, tuple)
    for text in ABSURD:
        with pytest.raises(MixstyleError) as caught:
            load_settings("demo", [f"{section}.{name}={f'[{text}, {text}]' if several else text}"])
        assert caught.value.code == "bad-setting"
        assert f"{section}.{name}" in caught.value.message
        assert len(caught.value.message) < 1000
    for value in (10**23, -(10**23), 10**5000, float("nan"), float("inf"), -float("inf")):
        with pytest.raises(MixstyleError) as caught:
            load_settings("demo", values={f"{section}.{name}": [value, value] if several else value})
        assert caught.value.code == "bad-setting"


def test_devices_are_numbered_and_counted_within_reason() -> None:
    for section in ("separate", "remix", "train"):
        for wrong in ({"device": "cuda:" + "9" * 30}, {"devices": ["cpu"] * (limits.PROCESSES + 1)}):
            ((name, value),) = wrong.items()
            with pytest.raises(MixstyleError) as caught:
                load_settings("demo", values={f"{section}.{name}": value})
            assert caught.value.code == "bad-setting"


def test_every_limit_has_a_reason() -> None:
    body = ast.parse((ROOT / "stages" / "common" / "limits.py").read_text()).body[1:]
    for assigned, reason in itertools.zip_longest(body[::2], body[1::2]):
        assert isinstance(assigned, ast.Assign), ast.dump(assigned)
        assert isinstance(reason, ast.Expr), ast.dump(assigned)
        assert isinstance(reason.value, ast.Constant)
        assert len(str(reason.value.value)) > 20


def test_the_defaults_and_what_was_stored_before_are_taken() -> None:
    # what people wrote before there were bounds where they meant "never", "all" or "as large as it goes"
    before = {"train.checkpoint_every": 10**9, "train.max_steps": 10**8, "evaluate.songs": 10**6}
    before |= {"train.seed": 2**63 - 1, "separate.seed": 20261127123456, "train.batch_size": 32_768}
    settings = load_settings("demo", values=before)
    assert settings.train.seed == 2**63 - 1
    assert plain(load_settings("demo", values=before)) == plain(settings)
    assert Settings().separate.clip_s == 10.0


def options_of(command: Callable[..., Any]) -> Iterator[str]:
    """The options of a command that take a number."""
    for name, hint in get_type_hints(command, include_extras=True).items():
        kinds = set(get_args(hint)) | {kind for part in get_args(hint) for kind in get_args(part)}
        for told in kinds:
            if isinstance(told, OptionInfo) and kinds & {int, float}:
                named = [told.default, *(told.param_decls or ())]  # typer keeps the first name as the default
                yield next((text for text in named if isinstance(text, str)), f"--{name.replace('_', '-')}")


OPTIONS = [
    (str(command.name), option)
    for command in app.registered_commands
    if command.callback is not None
    for option in options_of(command.callback)
]
AS_TEXT = [("evaluate-musdb", "--effects"), *((name, "--devices") for name in ("separate", "remix", "train"))]
"""Options that are text, and may hold numbers."""


def words_of(name: str, folder: Path) -> list[str]:
    """The arguments that a command cannot do without."""
    needed = {"evaluate-musdb": 2, "evaluate-match": 2, "search": 1, "export": 1, "demo-songs": 1}
    words = [name, *[str(folder / f"{i}") for i in range(needed.get(name, 0))]]
    if name == "export":
        words[-1] += ".safetensors"
    if name == "match":
        words += [str(folder / "0"), "--reference", str(folder / "1"), "--output", str(folder / "out.wav")]
    return words


def test_the_walk_finds_the_options_that_are_numbers() -> None:
    assert len(OPTIONS) > 20
    assert {("search", "-k"), ("browse", "--port"), ("separate", "--num-shards"), ("match", "--amount")} < set(OPTIONS)


@pytest.fixture
def _built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """typer builds all commands for each call, which takes most of the time of one that is refused."""
    monkeypatch.setattr(typer.testing, "_get_command", lambda _: _command())


@cache
def _command() -> Any:
    return typer.main.get_command(app)


@pytest.mark.usefixtures("_built_once")
@pytest.mark.parametrize(("name", "option"), [*OPTIONS, *AS_TEXT], ids=lambda text: text)
def test_options_beyond_all_sense_are_refused(name: str, option: str, tmp_path: Path) -> None:
    for folder in ("0", "1"):
        (tmp_path / folder).mkdir()
    for text in TYPED:
        result = CliRunner().invoke(app, [*words_of(name, tmp_path), option, text])
        assert result.exit_code != 0, text
        if isinstance(result.exception, MixstyleError):
            assert result.exception.code in ("bad-option", "bad-setting"), (text, result.exception)
            assert len(result.exception.message) < 1000
        else:
            assert isinstance(result.exception, SystemExit), (text, result.exception)
            assert result.exit_code == 2, "a usage error of the command line"
