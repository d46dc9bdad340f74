"""Whether audio is mono: one rule, and how strict it is for files and for what a separator made of them."""

FILE_DB = -80.0
"""The side of a file is this far below its middle, or further: 16 bits with dither are not quieter."""
SEPARATED_DB = -60.0
"""The same of stems that were separated: what a separator makes of a mono song is not quite mono."""


def is_mono(mid: float, side: float, most_db: float) -> bool:
    """Of the energies of the middle (left + right) and the side (left - right), in the same unit.

    >>> is_mono(1.0, 1e-7, SEPARATED_DB), is_mono(1.0, 1e-7, FILE_DB), is_mono(0.0, 0.0, FILE_DB)
    (True, False, True)
    """
    return side <= 10 ** (most_db / 10) * mid
