"""Commands about songs: embed, index, search, compare, describe, browse."""
