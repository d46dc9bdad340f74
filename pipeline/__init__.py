"""Pure tensor math: separation, descriptors, remixing, the encoder and its loss. No disk, no CLI."""
