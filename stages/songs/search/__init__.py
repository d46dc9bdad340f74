"""`mixstyle search`: the songs of an index that are mixed like one, as a whole or by one stem."""
