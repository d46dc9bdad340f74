"""The formats on disk: music in, stem shards, descriptor store, and the ledger of what is done and what failed."""
