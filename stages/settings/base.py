"""What the settings of all stages are made of: the types of their values, and `setting`, which declares a field.

A section is a frozen pydantic dataclass of the configuration STRICT: types are not converted but for what YAML cannot
write (a path, a tuple, `2e-4`), unknown names are refused, and the text below a field is its help.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from mixstyle.cache.storage.urls import shown, url_of, without_file_scheme

STRICT = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
"""The configuration of every section."""
T = TypeVar("T")


def _number(value: Any) -> Any:
    """YAML 1.1 reads 2e-4 (no dot) as text; people write it so."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _path(value: Any) -> Any:
    """Text as a path of this machine. `~` is the home folder, also where no shell has seen it; what is stored is the
    whole path."""
    path = _path_or_url(value)
    if isinstance(path, Path) and url_of(path):
        may = "this setting cannot be a URL (docs/scale.md)"
        raise ValueError(f"a path of this machine, not a URL: {may}")
    return path


def _path_or_url(value: Any) -> Any:
    """The same, or a URL as a path (`mixstyle.cache.storage.urls`)."""
    if not isinstance(value, str | Path):
        return value
    if str(value) == "":
        raise ValueError("a path")
    path = Path(without_file_scheme(str(value)))
    try:
        return path.expanduser() if path.parts[:1] == ("~",) else path
    except RuntimeError as error:
        raise ValueError("a path without ~: this user has no home folder (HOME is not set)") from error


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Number = Annotated[float, BeforeValidator(_number)]
Location = Annotated[Path, BeforeValidator(_path)]
"""Of a file or a folder; relative to the folder that the command runs in."""
LocationOrUrl = Annotated[Path, BeforeValidator(_path_or_url)]
"""The same, or a URL such as s3://bucket/stems."""
Several = Annotated[tuple[T, ...], BeforeValidator(_tuple)]
"""A tuple, which YAML writes as a list."""
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,4})?)$")]
"""`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""
NamedDevice = Annotated[str, Field(pattern=r"^(cpu|cuda(:[0-9]{1,4})?)$")]
"""`cpu`, `cuda` or `cuda:N`: one of several."""


def of_one_kind(devices: tuple[str, ...]) -> bool:
    """Whether devices are all CPUs or all GPUs: the last bits of results differ between kinds."""
    return len({name.partition(":")[0] for name in devices}) < 2


class ContradictionError(ValueError):
    """Settings of a section that contradict each other: `name`, the one to change, and why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name
        self.why = why


def setting(
    default: Any,
    *,
    unit: str | None = None,
    shapes_output: bool = False,
    shapes_embedding: bool = False,
    shapes_if: tuple[str, Any] | None = None,
    **bounds: Any,
) -> Any:
    """A field of a section.

    unit: of a number whose name does not end in it; "1" for a pure number. shapes_output: the stage's output follows
    from this setting. shapes_embedding: the embedding of a song does. shapes_if: (setting, value), where it shapes
    outputs only if another setting has this value. bounds: ge, gt, le, lt; min_length and max_length of a tuple.
    """
    known = {"unit": unit, "shapes_output": shapes_output, "shapes_embedding": shapes_embedding}
    extra: dict[str, Any] = {name: value for name, value in known.items() if value}
    if shapes_if:
        extra["shapes_if"] = list(shapes_if)
    return Field(default=default, json_schema_extra=extra, **bounds)


def fields_of(section: Any) -> Mapping[str, FieldInfo]:
    """The fields of a section or its class, by name."""
    return section.__pydantic_fields__


def marks(field: FieldInfo) -> Mapping[str, Any]:
    """What `setting` was told of a field: unit, shapes_output, shapes_embedding, shapes_if."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def shaping(section: Any, of: str = "output") -> dict[str, Any]:
    """The settings that a stage's outputs follow from, as plain values: those that are declared `shapes_output`.

    of: `embedding` for those that the embedding of a song follows from.
    """
    found = {}
    for name, field in fields_of(section).items():
        told = marks(field)
        other, value = told.get("shapes_if", (None, None))
        if told.get(f"shapes_{of}") and (other is None or getattr(section, other) == value):
            found[name] = plain(getattr(section, name))
    return found


def plain(value: Any) -> Any:
    """A value, a section or all settings as plain JSON and YAML types: paths as text, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return shown(value) if isinstance(value, Path) else value
