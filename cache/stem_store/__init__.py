"""Cached stems: the manifest of a run, WebDataset shards, access to clips, and the log of failures."""
