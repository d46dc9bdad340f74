"""Mixing stems anew: effects, chains of them, presets, and FX normalisation."""
