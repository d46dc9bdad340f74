"""What loading a model's files has told of them, kept so that nobody has to load them again to know it.

`$XDG_CACHE_HOME/mixstyle/models/<fingerprint of the case>.json`, version 1:
`{"version": 1, "case": {"kind": ..., "mixstyle": ..., "files": [SHA-256, ...], ...}, "facts": {...}}`, with a checksum
of itself. The case has the hash of each whole file, so that a file that changed is another case, wherever it is. It
is a cache: what cannot be read, or is of another version, counts as not there, and a folder that cannot be written is
no error.
"""

import contextlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.atomic import read_json, sha256_file, write_json
from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.cache.storage.user_cache import user_cache
from mixstyle.pipeline.core.errors import MixstyleError

VERSION = 1


@dataclass(frozen=True)
class ModelFiles:
    """A model's files as they were when they were hashed: before they were loaded, so that what is kept is of them."""

    case: Mapping[str, Any]

    @classmethod
    def of(cls, kind: str, files: Sequence[Path], **options: Any) -> "ModelFiles | None":
        """Reads and hashes the files; None where one cannot be read. options: what the facts depend on besides."""
        try:
            hashes = [sha256_file(path) for path in files]
        except OSError:
            return None
        return cls({"kind": kind, "mixstyle": importlib.metadata.version("mixstyle"), "files": hashes, **options})

    def facts(self) -> dict[str, Any] | None:
        """What was kept of them; None where nothing was."""
        path = self._path
        if not path.is_file():
            return None
        with contextlib.suppress(MixstyleError, KeyError, TypeError, ValueError):
            stored = read_json(path)
            if stored["version"] == VERSION and stored["case"] == self.case:
                return dict(stored["facts"])
        return None

    def keep(self, facts: Mapping[str, Any]) -> None:
        """Keeps facts, unless they are kept already."""
        if self.facts() == facts:
            return
        with contextlib.suppress(MixstyleError):
            write_json(self._path, {"version": VERSION, "case": self.case, "facts": dict(facts)}, checksum=True)

    @property
    def _path(self) -> Path:
        return user_cache("models") / f"{fingerprint(self.case)}.json"
