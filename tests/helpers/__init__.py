"""What several tests share: small caches, small networks, signals, oracles, and where things lie."""
