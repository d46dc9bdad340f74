"""`mixstyle embed`, and `Embedder`: music to embeddings, in Python and for all commands."""
