"""Separation: SCNet, its published files, chunks of long audio, batches, and tuning to a machine."""
