"""How messages tell of an index that was made from other files."""

INPUTS = {"encoder": "the encoder is another one", "separator": "the separator is another one"}
"""What the index's rows follow from, and what is told in place of two hashes."""
