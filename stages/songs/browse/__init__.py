"""`mixstyle browse`: a page to look at an index, to listen to it, and to hear what a match makes of a song."""
