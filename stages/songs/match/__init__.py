"""`mixstyle match` and `mixstyle apply`: a song brought to the mix of another, and the same put on other songs."""
