"""The folder of what may be thrown away: `$XDG_CACHE_HOME/mixstyle`, `~/.cache/mixstyle` unless set.

In the folder for temporary files where there is no home folder.
"""

import os
import tempfile
from pathlib import Path


def user_cache(name: str) -> Path:
    """A folder of this name in it; it may not be there yet."""
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME", "") or Path("~/.cache").expanduser())
    except RuntimeError:  # a user without a home folder, as in containers
        caches = Path(tempfile.gettempdir()) / f"mixstyle-{os.getuid()}"
    return caches / "mixstyle" / name
