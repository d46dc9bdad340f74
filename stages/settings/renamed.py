"""Settings that had other names in earlier versions; both names are read, the old one with a warning.

To rename a setting, add a line here; a setting's value that is text, in VALUES.
"""

from typing import Any

NAMES = {
    "separate.lanes": "separate.streams",
    "train.style_effects": "train.chain_effects",
    "evaluate.parts": "evaluate.tasks",
    "evaluate.styles": "evaluate.chains",
    "evaluate.hard_styles": "evaluate.hard_chains",
}
"""section.old -> section.new."""
VALUES: dict[str, dict[str, str]] = {
    "evaluate.tasks": {"fingerprint": "separator-dependence"},
}
"""section.name -> {old value: new value}; of a list, its items."""


def name_now(name: str) -> str:
    """The name that a setting has today."""
    return NAMES.get(name, name)


def value_now(name: str, value: Any) -> Any:
    """The value that means today what this one meant. name: as it is today."""
    known = VALUES.get(name, {})
    if isinstance(value, list | tuple):
        return [known.get(item, item) if isinstance(item, str) else item for item in value]
    return known.get(value, value) if isinstance(value, str) else value
