"""`mixstyle browse`: a page to look at an index and to listen to it."""
