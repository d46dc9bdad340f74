"""`mixstyle index`: a folder of songs to an index, which of them it holds, and what `status` says of it."""
