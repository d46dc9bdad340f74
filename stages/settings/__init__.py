"""Settings: one frozen dataclass a stage with its checks, and the profiles that they are read from."""
