"""What is said to wrong settings: one line that names the setting and what it should be, or the name that was meant."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.base import ContradictionError

T = TypeVar("T")
_SHOULD_BE = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list such as [32, 64]",
    "greater_than": "above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "below {lt}",
    "less_than_equal": "{le} or less",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} at most",
}
"""By pydantic's type of error."""
SHOWN_CHARACTERS = 200
"""Of a value that is refused, so many are repeated."""
_PATTERNS = {True: "auto, cpu, cuda or cuda:N", False: "cpu, cuda or cuda:N"}


def build(section: type[T], name: str, values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> T:
    """A section of the settings, checked.

    name: of the section, for messages. origins: setting -> the file or option that its value is from. Raises
    MixstyleError (bad-setting), naming each setting that is wrong and what it should be.
    """
    try:
        return section(**values)
    except ValidationError as error:
        told = [_refusal(name, values, origins or {}, details) for details in error.errors(include_url=False)]
    raise MixstyleError("; ".join(dict.fromkeys(told)), code="bad-setting")


def unknown(name: str, known: Collection[str], where: str, kind: str = "setting") -> MixstyleError:
    """The error of a name that there is not; it suggests the nearest of those that there are, else lists them.

    Names are section.key, or sections alone.
    """
    section, dot, key = name.rpartition(".")
    keys = [other.rpartition(".")[2] for other in known if other.startswith(section + dot)]
    elsewhere = [other for other in known if dot and other.endswith(f".{key}")]
    if nearest := get_close_matches(key, keys, n=1):
        hint = f"did you mean {section}{dot}{nearest[0]}?"
    else:
        hint = f"did you mean {elsewhere[0]}?" if elsewhere else f"there are {', '.join(keys)}"
    return MixstyleError(f"{where}: there is no {kind} {shortened(name)}; {hint}", code="unknown-setting")


def _refusal(section: str, values: Mapping[str, Any], origins: Mapping[str, str], details: Mapping[str, Any]) -> str:
    """One error of pydantic's as a line: where it is from, section.name=value, and what that should be."""
    context = details.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, ContradictionError):
        shown = values.get(cause.name, "(default)")
        return f"{_from(origins, cause.name)}{section}.{cause.name}={_shown(shown)} {cause.why}"
    place = details["loc"]
    name = str(place[0])
    if details["type"] == "literal_error":
        wanted = "one of " + context["expected"].replace("'", "").replace(" or ", ", ")
    elif details["type"] == "string_pattern_mismatch":
        wanted = _PATTERNS["auto" in context["pattern"]]
    elif cause is not None:
        wanted = str(cause)
    else:
        bounds = {key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()}
        known = _SHOULD_BE.get(details["type"])
        wanted = known.format(**bounds) if known else str(details["msg"])
    each = "each be" if len(place) > 1 else "be"
    return f"{_from(origins, name)}{section}.{name}={_shown(values[name])} should {each} {wanted}"


def _from(origins: Mapping[str, str], name: str) -> str:
    return f"{origins[name]}: " if name in origins else ""


def _shown(value: Any) -> str:
    try:
        return shortened(repr(value) if isinstance(value, str) else str(value))
    except ValueError:  # Python prints no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def shortened(text: str) -> str:
    """A text for a message: its first 200 characters, where it is longer.

    >>> shortened("short"), len(shortened("x" * 5000))
    ('short', 203)
    """
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
