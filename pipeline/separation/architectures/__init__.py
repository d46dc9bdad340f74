"""The networks that can separate, one file each: a module here that has an `ARCHITECTURE` is one.

How to add one, in a new file of this package, `my_network.py`:

1. A frozen dataclass of the settings in the `model` section of its YAML, with `sources`, the stems in the order of the
   network's output, and `least_chunk_frames`, the shortest audio at 44.1 kHz that the network takes. It raises
   MixstyleError, naming the setting, for what it cannot be built from.
2. An `nn.Module` that turns mixtures [B, 2, T] in float32 into stems [B, 4, 2, T] in float32, whatever it computes in.
3. `ARCHITECTURE = Architecture(name, recognises, read_config, build)`: see `base.Architecture`. `build` makes the
   module from the settings and the checkpoint's weights; `base.load_weights` refuses weights that do not fit.

`load_separator` then takes a YAML that says `architecture: <name>` at its top, or whose `model` section it recognises;
chunks, batches, tuning and the cache of stems are the same for all. Test it as test_registry.py does.
"""
