"""Mixing descriptors: their table, the spectra and loudness they are read from, and their computation."""
