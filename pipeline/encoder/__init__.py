"""The encoder: log-mels, the network, its losses, and training it on several processes."""
