"""What numbers of settings and options are bounded by, each with the reason: no machine, no music and no training comes
near it. Within these bounds a number may still be too much for one machine; what runs out is told by its own line.

The largest values are far above what anybody has used, so that settings that were stored before are still taken.
"""

PROCESSES = 1024
"""Processes, threads or devices of one command. The largest servers, of eight processors, have 960 hardware threads."""
COUNT = 10**9
"""Songs, steps, epochs or shares. All recordings ever published are fewer than 10^9, and 10^9 steps of a millisecond
take 12 days; people write numbers like this where they mean "never" or "all"."""
SEED = 2**63 - 1
"""Seeds are whole numbers of 64 bits with a sign, which JSON, Zarr and torch's generators all hold."""
LEAST_CLIP_S = 0.1
"""Of a clip: four frames of the shortest mel spectrogram in use, and less than the 0.4 s that loudness is measured
over."""
CLIP_S = 3600.0
"""An hour of a clip's four stems is 5 GB of 32-bit samples, and several clips are held at once."""
SONG_S = 86_400.0
"""A rendered song is at most a day long."""
CLIPS_PER_TRACK = 100_000
"""A day of music has 86,400 clips of a second."""
PER_SHARD = 100_000
"""Tracks or blocks in a shard: one file, that is made again as a whole. A track of four clips takes 9 MB, so many
900 GB."""
BATCH = 65_536
"""Clips, chunks, tracks or parts of a batch. The largest published contrastive batches have 32,768 items; so many clips
of 10 s are 925 GB."""
WINDOWS = 100
"""Times that each second is separated; published separators take 2 to 8."""
BLOCKS = 10**6
"""Of a bank: with 24 clips of 1 MB each, 24 TB."""
GRID = 10_000
"""Contents, chains, clips or stretches of one block, song or query: every one of them is rendered and separated."""
CHAINS = 10**6
"""Effect chains that are rendered and separated, each for seconds: so many take weeks on any machine."""
EFFECTS = 1000
"""Effects of a chain. Each effect that there is comes once in it, and there are fewer than ten; what is more than that
is refused by the commands, which know them."""
SAMPLES = 65_536
"""Of a spectrum's frame: 1.5 s at 44.1 kHz."""
WIDTH = 65_536
"""Mel bands, channels or dimensions: a layer from so many to so many has 4 x 10^9 weights, 17 GB."""
LEARNING_RATE = 10.0
"""AdamW moves each weight by about the learning rate in a step, and weights are below 1."""
WEIGHT_DECAY = 1000.0
"""Times the learning rate it is the share of a weight that a step takes away."""
LEAST_TEMPERATURE = 1e-4
"""Cosines are within -1 and 1: divided by this they differ by 20,000, and a softmax of them is 0 or 1 in any format."""
TEMPERATURE = 1e4
"""Divided by this, all cosines are as good as equal."""
WEIGHT = 1e6
"""Of one loss beside another, or of one part of an embedding beside another: the other is lost in rounding."""
RANGE_DB = 200.0
"""24-bit samples span 144 dB."""
LEAST_LUFS = -200.0
"""Far below a sample's last bit."""
STORE_GB = 10**9
"""10^9 GB are an exabyte."""
