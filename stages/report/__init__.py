"""`mixstyle report`: one page about a trained encoder."""
