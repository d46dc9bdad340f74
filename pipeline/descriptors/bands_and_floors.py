"""The frequencies, floors and limits that the descriptors are defined by."""

RMS_FLOOR_DBFS = -120.0
"""A stem whose mean square over both channels is below this is silent."""
BAND_FLOOR_DB = -80.0
RATIO_LIMIT_DB = 60.0
FLATNESS_FLOOR_DB = -60.0
MASKING_LIMIT_DB = 30.0
ACTIVE_DB = -40.0
"""A tile of time and frequency counts for masking when it is above this, against the mean of its stem's tiles."""

LOWEST_HZ = 1000 * 2**-5.5
"""22.1 Hz: lower edge of the lowest octave, and of all that is measured in frequency."""
CROSSOVER_HZ = 1000 * 2**-1.5
"""353.6 Hz, an octave's edge: below it frequencies are resolved by windows of 93 ms, above it of 23 ms."""
OCTAVES_HZ: tuple[float, ...] = tuple(1000 * 2.0**k for k in range(-5, 5))
"""Centres 31.25 Hz to 16 kHz; edges are half an octave to either side, at most half the sampling rate: the top
one at 44.1 kHz ends there (22.05 kHz), at 48 kHz at 22.6 kHz."""
REGIONS_HZ: tuple[tuple[str, float, float], ...] = (
    ("low", LOWEST_HZ, 250.0),
    ("mid", 250.0, 4000.0),
    ("high", 4000.0, float("inf")),
)
TILT_OCTAVES = slice(1, 9)
"""62.5 Hz to 8 kHz: without the octaves that separators and codecs cut off."""
FLATNESS_HZ = (250.0, 8000.0)
MASKING_TOP_HZ = 16_000.0
