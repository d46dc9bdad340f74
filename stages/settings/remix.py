"""Settings of `mixstyle remix`: a bank of clips that were mixed from cached stems and separated again."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mixstyle.stages.common import limits
from mixstyle.stages.settings.base import (
    STRICT,
    ContradictionError,
    Device,
    Location,
    LocationOrUrl,
    NamedDevice,
    Number,
    Several,
    of_one_kind,
    setting,
)


@dataclass(frozen=True, config=STRICT)
class RemixSettings:
    """`mixstyle remix`: cached stems remixed, summed and separated again, into a bank of clips."""

    remix_dir: LocationOrUrl = setting(Path("cache/remix"))
    """The folder that the bank goes to, as shards of stems, or a URL."""
    features_path: LocationOrUrl = setting(Path("cache/remix.zarr"))
    """The Zarr store that `mixstyle features` puts the descriptors of the bank's clips into, or its URL."""
    blocks: int = setting(0, unit="blocks", ge=0, le=limits.BLOCKS, shapes_output=True)
    """Blocks of the bank; each has `chains_per_block` effect chains on the same contents. 0 makes no bank."""
    contents: int = setting(6, unit="clips", ge=2, le=limits.GRID, shapes_output=True)
    """Contents of a block, of as many songs: clips that one effect chain is put on."""
    chains_per_block: int = setting(4, unit="chains", ge=1, le=limits.GRID, shapes_output=True)
    """Effect chains of a block, each on all of its contents."""
    blocks_per_shard: int = setting(4, unit="blocks", ge=1, le=limits.PER_SHARD, shapes_output=True)
    """Blocks in a shard, the file that is written and locked as a whole."""
    clip_s: Number = setting(4.0, ge=0.4, le=limits.CLIP_S, shapes_output=True)
    """Length of a clip, at most that of the cached ones, of which it is cut."""
    effects: Several[Annotated[int, Field(ge=1, le=limits.EFFECTS)]] = setting(
        (1, 8), unit="effects", min_length=2, max_length=2, shapes_output=True
    )
    """The least and the most effects of an effect chain; each number between them is as likely."""
    mixed_share: Number = setting(0.25, unit="1", ge=0, le=1, shapes_output=True)
    """Share of the contents whose four stems are of four songs."""
    levels_share: Number = setting(0.1, unit="1", ge=0, le=1, shapes_output=True)
    """Share of the effect chains that have no effect and set the loudness of the stems alone."""
    own_share: Number = setting(0.1, unit="1", ge=0, le=1, shapes_output=True)
    """Share of the blocks whose clips are songs as they are: own mixes at several places, not separated again (once,
    where separate.input is stems)."""
    stems_share: Number = setting(0.0, unit="1", ge=0, le=1, shapes_output=True)
    """Share of the other blocks whose processed stems are kept as they are: not summed, and not separated again."""
    song_share: Number = setting(0.0, unit="1", ge=0, le=1, shapes_output=True)
    """Share of the other blocks whose contents are all of one song, at several places."""
    level_range_db: Number = setting(6.0, ge=0, le=limits.RANGE_DB, shapes_output=True)
    """Levels of mixes are within plus and minus this."""
    seed: int = setting(0, unit="1", ge=0, le=limits.SEED, shapes_output=True)
    """Draws songs, places, effect chains and levels."""
    separators: Several[Several[Location]] = setting(())
    """More separators besides that of `separate`, each as [YAML, checkpoint]; blocks take turns at them."""
    num_overlap: int | None = setting(None, unit="windows", ge=1, le=limits.WINDOWS)
    """Overrides inference.num_overlap of the separators' YAML; 1 separates each second once."""
    device: Device = setting("auto")
    """Where the separator runs: auto, cpu, cuda or cuda:N."""
    devices: Several[NamedDevice] = setting((), max_length=limits.PROCESSES)
    """Several devices of one kind, a worker process on each; instead of `device`."""
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32")
    """Number format of the separator's products."""
    batch_chunks: int = setting(0, unit="chunks", ge=0, le=limits.BATCH)
    """Chunks of audio that go through the separator together; 0 finds the fastest by a short measurement."""
    streams: int = setting(0, unit="streams", ge=0, le=limits.PROCESSES)
    """Batches that are in the separator at once, sharing its threads; 0 finds the fastest."""
    threads: int = setting(0, unit="threads", ge=0, le=limits.PROCESSES)
    """CPU threads of the network, all streams together; 0 takes every core."""
    workers: int = setting(2, unit="threads", ge=1, le=limits.PROCESSES)
    """Threads that mix clips ahead of the network, and as many that encode what it gives."""

    @model_validator(mode="after")
    def _fits(self) -> "RemixSettings":
        if self.effects[0] > self.effects[1]:
            raise ContradictionError("effects", "should name the smaller number first")
        if any(len(pair) != 2 for pair in self.separators):
            raise ContradictionError("separators", "should each be [YAML, checkpoint]")
        if not of_one_kind(self.devices):
            raise ContradictionError("devices", "should all be of one kind")
        return self
