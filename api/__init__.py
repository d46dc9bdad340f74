"""mixstyle: what a mix sounds like, apart from what the song is.

The names below are the public face; each is imported when it is first used, so that `import mixstyle` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixstyle.cache.exports import load_encoder
    from mixstyle.cache.features_store import FeatureStore
    from mixstyle.cache.stem_cache import StemCache
    from mixstyle.pipeline.chunks import ClipRequest
    from mixstyle.pipeline.descriptors import DESCRIPTORS, describe
    from mixstyle.pipeline.encoder import Encoder, EncoderConfig
    from mixstyle.pipeline.errors import MixstyleError
    from mixstyle.pipeline.infonce import info_nce
    from mixstyle.pipeline.mel import StemMel
    from mixstyle.pipeline.remix import apply_remix, sample_remix
    from mixstyle.pipeline.separator import Separator, load_separator
    from mixstyle.pipeline.song import render_song
    from mixstyle.pipeline.stems import SAMPLE_RATE, STEMS
    from mixstyle.stages.embedder import EmbeddedSong, Embedder, load

__version__ = "0.1.0"

_HOME = {
    "cache.exports": ("load_encoder",),
    "cache.features_store": ("FeatureStore",),
    "cache.stem_cache": ("StemCache",),
    "pipeline.descriptors": ("DESCRIPTORS", "describe"),
    "pipeline.encoder": ("Encoder", "EncoderConfig"),
    "pipeline.errors": ("MixstyleError",),
    "pipeline.infonce": ("info_nce",),
    "pipeline.mel": ("StemMel",),
    "pipeline.remix": ("apply_remix", "sample_remix"),
    "pipeline.chunks": ("ClipRequest",),
    "pipeline.separator": ("Separator", "load_separator"),
    "pipeline.song": ("render_song",),
    "pipeline.stems": ("SAMPLE_RATE", "STEMS"),
    "stages.embedder": ("EmbeddedSong", "Embedder", "load"),
}
_MODULE = {name: f"mixstyle.{module}" for module, names in _HOME.items() for name in names}

__all__ = [
    "DESCRIPTORS",
    "SAMPLE_RATE",
    "STEMS",
    "ClipRequest",
    "EmbeddedSong",
    "Embedder",
    "Encoder",
    "EncoderConfig",
    "FeatureStore",
    "MixstyleError",
    "Separator",
    "StemCache",
    "StemMel",
    "__version__",
    "apply_remix",
    "describe",
    "info_nce",
    "load",
    "load_encoder",
    "load_separator",
    "render_song",
    "sample_remix",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'mixstyle' has no attribute {name!r}")
    value = getattr(import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
