"""mixstyle: what a mix sounds like, apart from what the song is.

The names below are the public face; each is imported when it is first used, so that `import mixstyle` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixstyle.cache.feature_store.store import FeatureStore
    from mixstyle.cache.models.exports import load_encoder
    from mixstyle.cache.stem_store.stem_cache import StemCache
    from mixstyle.library import Index, compare, describe_song, search
    from mixstyle.pipeline.core.errors import MixstyleError
    from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
    from mixstyle.pipeline.descriptors.compute import describe
    from mixstyle.pipeline.descriptors.table import DESCRIPTORS
    from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
    from mixstyle.pipeline.encoder.losses import info_nce
    from mixstyle.pipeline.encoder.mel import StemMel
    from mixstyle.pipeline.mixing.mix_chain import apply_remix, sample_remix
    from mixstyle.pipeline.separation.chunks import ClipRequest
    from mixstyle.pipeline.separation.separator import Separator
    from mixstyle.pipeline.synth.song import render_song
    from mixstyle.stages.common.separators import load_separator
    from mixstyle.stages.songs.compare.comparison import Comparison
    from mixstyle.stages.songs.describe.song import DescribedSong
    from mixstyle.stages.songs.embed.embedder import EmbeddedSong, Embedder, load
    from mixstyle.stages.songs.search.matches import Match

__version__ = "0.1.0"

_HOME = {
    "library": ("Index", "compare", "describe_song", "search"),
    "cache.models.exports": ("load_encoder",),
    "cache.feature_store.store": ("FeatureStore",),
    "cache.stem_store.stem_cache": ("StemCache",),
    "pipeline.descriptors.compute": ("describe",),
    "pipeline.descriptors.table": ("DESCRIPTORS",),
    "pipeline.encoder.encoder": ("Encoder", "EncoderConfig"),
    "pipeline.core.errors": ("MixstyleError",),
    "pipeline.encoder.losses": ("info_nce",),
    "pipeline.encoder.mel": ("StemMel",),
    "pipeline.mixing.mix_chain": ("apply_remix", "sample_remix"),
    "pipeline.separation.chunks": ("ClipRequest",),
    "pipeline.separation.separator": ("Separator",),
    "pipeline.synth.song": ("render_song",),
    "pipeline.core.stems": ("SAMPLE_RATE", "STEMS"),
    "stages.common.separators": ("load_separator",),
    "stages.songs.compare.comparison": ("Comparison",),
    "stages.songs.describe.song": ("DescribedSong",),
    "stages.songs.embed.embedder": ("EmbeddedSong", "Embedder", "load"),
    "stages.songs.search.matches": ("Match",),
}
_MODULE = {name: f"mixstyle.{module}" for module, names in _HOME.items() for name in names}

__all__ = [
    "DESCRIPTORS",
    "SAMPLE_RATE",
    "STEMS",
    "ClipRequest",
    "Comparison",
    "DescribedSong",
    "EmbeddedSong",
    "Embedder",
    "Encoder",
    "EncoderConfig",
    "FeatureStore",
    "Index",
    "Match",
    "MixstyleError",
    "Separator",
    "StemCache",
    "StemMel",
    "__version__",
    "apply_remix",
    "compare",
    "describe",
    "describe_song",
    "info_nce",
    "load",
    "load_encoder",
    "load_separator",
    "render_song",
    "sample_remix",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'mixstyle' has no attribute {name!r}")
    value = getattr(import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
