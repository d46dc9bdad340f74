"""Mixes stems in other ways: effects, chains of them, presets, and FX normalisation."""
