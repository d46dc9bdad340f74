"""The modules of `benchmarks/`, which are no package."""

import importlib
import sys
from types import ModuleType

import pytest

from helpers.paths import ROOT


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A benchmark, imported as its own command would import it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)
