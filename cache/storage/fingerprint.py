"""One hash for settings, of which order and types of containers are no part."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def fingerprint(settings: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of the settings as canonical JSON (order of keys does not matter).

    >>> fingerprint({"a": 1, "b": [2.5, None]}) == fingerprint({"b": [2.5, None], "a": 1})
    True
    """
    text = json.dumps(as_json(settings), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def as_json(value: Any) -> Any:
    """The value as JSON gives it back: tuples as lists, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value.as_posix() if isinstance(value, PurePath) else value
