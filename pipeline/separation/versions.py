"""Versions of the separation's code, stored with what it made. Without torch: what compares them needs none."""

INFERENCE_VERSION = 2
"""Counts changes to the forward pass that move the last bits of the stems."""
