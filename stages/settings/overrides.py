"""How `--set section.name=value` is read: the value as YAML (numbers, lists in brackets), a path or a text as it is."""

from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import yaml

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.refusals import shortened


def split_override(text: str, names: Sequence[str]) -> tuple[str, str]:
    """Name and value as they are written. names: of all settings, for the message.

    Raises MixstyleError (bad-option) for text of another form.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (equals and "." in name):
        same = [known for known in names if known.partition(".")[2] == name]
        raise MixstyleError(
            f"--set {shortened(text)}: write it as section.name=value, such as {(same or ['train.batch_size'])[0]}="
            f"{shortened(value) or 12}",
            code="bad-option",
        )
    return name, value


def read_override(text: str, value: str, annotation: Any) -> Any:
    """The value, `#` and `: ` in a path or a text too. text: all of the override. annotation: the setting's type.

    Raises MixstyleError (bad-setting) for what is no YAML.
    """
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    kinds = {getattr(option, "__origin__", option) for option in options}
    plain = bool(kinds & {Path, str})
    if plain and NoneType in kinds and value in ("", "null", "~"):
        return None
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if plain and not quoted:
        return value
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MixstyleError(f"--set {shortened(text)}: the value is not valid YAML", code="bad-setting") from error
