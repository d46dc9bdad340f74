"""`mixstyle features`: the descriptors of cached clips."""
