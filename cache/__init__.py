"""The formats on disk that the stages share."""
