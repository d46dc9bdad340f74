"""Code of our own for what torch computes slowly on a processor; built where a compiler is there."""
