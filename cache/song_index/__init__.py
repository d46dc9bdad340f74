"""An index of songs: its file format and where it is kept."""
