"""One module a command: each wires the pipeline to the cache."""
