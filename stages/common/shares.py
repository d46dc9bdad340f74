"""Shares of a stage's shards: --shard-index and --num-shards."""

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common import limits


def check_share(shard_index: int, num_shards: int) -> None:
    """Raises MixstyleError ("bad-option") for a share that there is not."""
    if not 1 <= num_shards <= limits.COUNT:
        raise MixstyleError(f"--num-shards {num_shards}: should be 1 to {limits.COUNT}", code="bad-option")
    if not 0 <= shard_index < num_shards:
        raise MixstyleError(
            f"--shard-index {shard_index}: should be from 0 to {num_shards - 1}, for --num-shards {num_shards}",
            code="bad-option",
        )
