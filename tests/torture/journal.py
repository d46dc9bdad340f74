"""What torture has done: a line of JSON for each event, so that a command that was broken off goes on."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any


class Journal:
    """A file of events. entries: those that are there, but for a line that was cut short."""

    def __init__(self, path: Path, of: dict[str, str]) -> None:
        """of: what the events follow from. Raises SystemExit where the file has those of something else."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().split("\n") if path.is_file() else []
        found = [json.loads(line) for line in lines[:-1]]
        self.entries: list[dict[str, Any]] = found[1:]
        if found:
            other = [name for name, value in of.items() if found[0].get(name) != value]
            if other:
                raise SystemExit(
                    f"{path}: holds events of another {' and '.join(other)}; remove it or take another --folder"
                )
        whole = path.with_suffix(".partial")
        whole.write_text("".join(f"{json.dumps(entry)}\n" for entry in (of, *self.entries)))
        whole.replace(path)

    def add(self, entry: dict[str, Any]) -> None:
        """Writes an event down."""
        self.entries.append(entry)
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def code_hash() -> str:
    """SHA-256 of all sources that torture depends on, hexadecimal."""
    root = Path(__file__).parents[2]
    found = [path for name in ("pipeline", "cache", "stages", "api") for path in (root / name).rglob("*.py")]
    found += [path for name in ("torture", "helpers") for path in (root / "tests" / name).glob("*.py")]
    parts = (f"{path.relative_to(root)} {sha256(path.read_bytes()).hexdigest()}" for path in sorted(found))
    return sha256("\n".join(parts).encode()).hexdigest()
