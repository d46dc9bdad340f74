"""What tuning found on this machine, kept so that it is measured once.

`$XDG_CACHE_HOME/mixstyle/tunings/<fingerprint of the case>.json` (`~/.cache` unless set; in the folder for
temporary files where there is no home folder), version 1:
`{"version": 1, "case": {...}, "threads_per_stream": n, "batch_chunks": n, "chunk_s": {choice: seconds}}`. Earlier
versions called threads_per_stream threads_per_lane, in the case too; such files are read. It is a cache: files that
cannot be read, or of other versions, count as not there, and a folder that cannot be written is no error.
"""

import contextlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mixstyle.cache.storage.atomic import read_json, write_json
from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.cache.storage.provenance import rename
from mixstyle.cache.storage.user_cache import user_cache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.tuning import Tuning

VERSION = 1
_RENAMED = {"threads_per_lane": "threads_per_stream"}
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that hold torch or oneDNN to fewer instructions than the processor has."""


def tunings_folder() -> Path:
    """Where tunings are kept."""
    return user_cache("tunings")


def machine(device: torch.device) -> dict[str, Any]:
    """What of the machine a tuning depends on. On CPUs the limits on instructions too, where they are set."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "torch": torch.__version__}
    name = next(iter(_processor()), platform.processor() or platform.machine())
    limits = {variable: os.environ[variable] for variable in _LIMITS if os.environ.get(variable)}
    return {"device": name, "torch": torch.__version__, **({"limits": limits} if limits else {})}


def load_tuning(case: Mapping[str, Any]) -> Tuning | None:
    """The tuning kept for this case, if any."""
    before = rename(case, {name: earlier for earlier, name in _RENAMED.items()})
    path = next((path for path in (_path(case), _path(before)) if path.exists()), None)
    if path is None:
        return None
    with contextlib.suppress(MixstyleError, KeyError, TypeError, AttributeError, ValueError, OverflowError):
        stored = rename(read_json(path), _RENAMED)
        if stored["version"] == VERSION:
            return Tuning(int(stored["threads_per_stream"]), int(stored["batch_chunks"]), dict(stored["chunk_s"]))
    return None


def store_tuning(case: Mapping[str, Any], tuning: Tuning) -> Path | None:
    """Keeps a tuning; where it is, or None where the folder cannot be written."""
    path = _path(case)
    content = {
        "version": VERSION,
        "case": dict(case),
        "threads_per_stream": tuning.threads_per_stream,
        "batch_chunks": tuning.batch_chunks,
        "chunk_s": tuning.chunk_s,
    }
    try:
        write_json(path, content, checksum=True)
    except MixstyleError:
        return None
    return path


def _path(case: Mapping[str, Any]) -> Path:
    return tunings_folder() / f"{fingerprint(case)}.json"


def _processor() -> list[str]:
    """The processor's name as Linux tells it, if it does."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return []
