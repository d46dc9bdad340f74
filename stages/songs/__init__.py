"""Commands about songs: embed, index, search, compare, describe, stems, match, apply, browse."""
