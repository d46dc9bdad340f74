"""What rendered songs depend on beside their seed: the renderer's version and its SoundFont. Quick to import."""

import importlib.util
from functools import lru_cache
from pathlib import Path

from mixstyle.pipeline.core.errors import MixstyleError

RENDERER_VERSION = 3
"""Raised whenever equal seeds would give other songs than before."""


@lru_cache(maxsize=1)
def soundfont_bytes() -> bytes:
    """TimGM6mb.sf2 out of the installed pretty_midi package (which is not imported for it).

    Raises MixstyleError when the package or the font is missing.
    """
    spec = importlib.util.find_spec("pretty_midi")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        font = Path(folder) / "TimGM6mb.sf2"
        if font.is_file():
            return font.read_bytes()
    raise MixstyleError(
        "TimGM6mb.sf2 is missing: install pretty_midi 0.2.11 or later, whose wheel holds it", code="no-package"
    )
