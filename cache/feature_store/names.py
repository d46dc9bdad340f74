"""The names of what a descriptor store holds: its arrays, and the file without which there is no store."""

ROOT = "zarr.json"
"""The group's metadata: without them there is no store."""
KEYS = ("clip_id", "track_id", "path", "split")
BY_SHARD = ("descriptors", "start_s", "reason", "shard_sha256", "rows_sha256", "done")
"""What a shard fills; a shard's part can be made again."""
ARRAYS = (*KEYS, *BY_SHARD, "descriptor", "center", "scale")
