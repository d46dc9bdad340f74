"""`mixstyle verify`: whether everything that a profile stored is what was written."""
