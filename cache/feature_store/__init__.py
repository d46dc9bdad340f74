"""The descriptors of all cached clips: a Zarr store, its layout, its checksums and where it is kept."""
