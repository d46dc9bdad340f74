"""`mixstyle doctor`: what a bug report needs to know of a machine, and what is likely wrong with it."""
