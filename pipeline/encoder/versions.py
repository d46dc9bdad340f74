"""The version of what the encoder reads, stored with its weights. Without torch: what compares it needs none."""

SPECTROGRAMS_VERSION: int = 1
"""Counts up when equal clips come out as other spectrograms: a change in `StemMel`, or in how clips are levelled
before it (`levels.py`). Encoders and kept spectrograms of another version are not used."""
