"""`mixstyle describe`: one song's mix, for people."""
