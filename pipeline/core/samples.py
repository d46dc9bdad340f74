"""What samples may be: finite, and not absurdly far beyond full scale."""

LOUDEST_SAMPLE = 100.0
"""Of full scale 1: 40 dB above it. Mixes in floating point exceed full scale by a few dB; what was scaled as whole
numbers of 16 bits or is damaged is beyond this, and its loudness means nothing."""
