"""`mixstyle separate`: music to cached stems."""
