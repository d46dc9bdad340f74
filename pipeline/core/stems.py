"""The stems, their order and their rate: the layout that every tensor `[.., 4, 2, T]` here has."""

STEMS: tuple[str, ...] = ("vocals", "bass", "drums", "other")
"""Order of the stem axis everywhere, whatever the order in a separator's checkpoint."""

SAMPLE_RATE: int = 44_100
"""Hz; separators, caches and the encoder all work at this rate."""

CHANNELS: tuple[str, ...] = tuple(f"{stem}_{side}" for stem in STEMS for side in ("left", "right"))
"""The 8 channels of a cached clip, stem-major: `[.., 4, 2, T]` reshaped to `[.., 8, T]`."""
