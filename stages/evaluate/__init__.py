"""`mixstyle evaluate`: what embeddings know."""
