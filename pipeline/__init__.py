"""Tensor math: separation, descriptors, mixing, matching, the encoder and its loss, retrieval, rendered songs.

No command line, and no disk but the separator's own two files and the SoundFont.
"""
