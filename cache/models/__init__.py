"""Trained encoders: checkpoints of a training run, and files to hand on."""
