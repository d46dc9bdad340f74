"""`mixstyle train`: the encoder."""
