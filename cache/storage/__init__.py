"""Files that are whole or not there, locks between processes, and what a stored output was made from."""
