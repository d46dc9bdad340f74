"""`mixstyle compare`: how the mixes of two songs differ, and the figure of it."""
