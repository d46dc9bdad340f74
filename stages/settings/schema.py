"""The JSON schema of profiles, for editors: names, types, bounds, units and help of all settings.

    python -m mixstyle.stages.settings.schema > configs/schema.json

A profile points an editor at it by its first line, `# yaml-language-server: $schema=schema.json`.
"""

import json
from typing import Any

from pydantic import TypeAdapter

from mixstyle.stages.settings.profile import Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema of a profile."""
    made = TypeAdapter(Settings).json_schema()
    return {"$schema": DIALECT, "title": "A profile of mixstyle", **_without_titles(made)}


def text() -> str:
    """The schema as it is stored."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _without_titles(part: Any) -> Any:
    """The schema without pydantic's titles, which say what the names say."""
    if isinstance(part, dict):
        return {k: _without_titles(v) for k, v in part.items() if not (k == "title" and isinstance(v, str))}
    return [_without_titles(item) for item in part] if isinstance(part, list) else part


if __name__ == "__main__":
    print(text(), end="")
