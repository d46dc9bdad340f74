"""How figures, pages and descriptors' names look, for every command."""
