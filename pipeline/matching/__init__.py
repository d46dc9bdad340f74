"""Brings one mix's stems to those of another: what to change, in the units of a mixing desk, and the change itself."""
