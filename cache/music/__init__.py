"""Music in: which files there are, what they say of themselves, and their audio, decoded in processes of their own."""
