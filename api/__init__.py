"""mixstyle: what a mix sounds like, apart from what the song is."""

from mixstyle.pipeline.errors import MixstyleError
from mixstyle.pipeline.stems import SAMPLE_RATE, STEMS

__version__ = "0.1.0"

__all__ = ["SAMPLE_RATE", "STEMS", "MixstyleError", "__version__"]
