"""Folders in which every command can be typed, and the words of the commands that work for long."""

from pathlib import Path

import pytest
import soundfile
import yaml
from torture.commands import STAGES, write_inputs

from helpers.desk_songs import RATE, stems_of
from helpers.small_encoder import SONG_S, write_encoder
from helpers.small_separator import CLIP_S, write_separator, write_songs
from helpers.typed import run
from mixstyle.cache.match_chain import MatchChain, write_chain
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.matching.desk import Filter, Strip

CONFIG = ("--config", "p.yaml")
INDEXED = (*CONFIG, "--index", "index")
SONGS = ("music/song 0.flac", "music/song 1.flac")
COMMANDS = {
    "demo-songs": ("OUT", *CONFIG),
    "separate": (*CONFIG, "--set", "separate.stems_dir=OUT"),
    "remix": (*CONFIG, "--set", "remix.remix_dir=OUT"),
    "features": (*CONFIG, "--set", "features.features_path=OUT/f.zarr", "--set", "remix.blocks=0"),
    "describe": (*SONGS, *CONFIG, "--csv", "OUT/d.csv", "--json", "OUT/d.json"),
    "stems": (*SONGS, *CONFIG, "-o", "OUT"),
    "match": (SONGS[0], "-r", SONGS[1], *CONFIG, "-o", "OUT/m.wav", "--chain", "OUT/c.json", "--write-stems", "OUT/s"),
    "apply": ("chain.json", *SONGS, *CONFIG, "-o", "OUT"),
    "embed": (*SONGS, *CONFIG, "-o", "OUT/e.npy"),
    "index": ("music", *CONFIG, "--index", "OUT"),
    "search": ("true/song 0", *INDEXED, "--json", "OUT/s.json"),
    "compare": (*SONGS, *INDEXED, "--json", "OUT/c.json"),
    "evaluate-match": ("true", "OUT", *CONFIG, "--pairs", "2", "--effects", "1", "--clip-s", "0.5", "--no-separate"),
}
"""By name; OUT is where a command writes to. Typed in the folder of `write_indexed`."""


def write_indexed(folder: Path) -> Path:
    """Songs, their stems, an index, and the small networks that make them; the folder."""
    write_songs(folder / "music", 2, seconds=SONG_S)
    write_separator(folder / "separator", num_overlap=1)
    for seed in range(2):
        (folder / "true" / f"song {seed}").mkdir(parents=True)
        for stem, audio in zip(STEMS, stems_of(seed, SONG_S).numpy(), strict=True):
            soundfile.write(folder / "true" / f"song {seed}" / f"{stem}.flac", audio.T, RATE)
    write_chain(folder / "chain.json", MatchChain((Strip((Filter("bell", 1000.0, 3.0, 1.0),)),) * 4, 0.0, -14.0))
    none = {"validation_fraction": 0.0, "test_fraction": 0.0, "tracks_per_shard": 1}
    small = {"device": "cpu", "threads": 1, "batch_chunks": 1, "workers": 1, "clips_per_track": 2, "clip_s": CLIP_S}
    pair = {"separator_config": "separator/separator.yaml", "separator_checkpoint": "separator/separator.safetensors"}
    remix = {"blocks": 2, "blocks_per_shard": 1, "contents": 2, "chains_per_block": 1, "own_share": 0.0}
    sections = {
        "demo_songs": {"songs": 2, "duration_s": 8.0, "stems": False, "workers": 1},
        "separate": {"data_path": "music", "stems_dir": "stems", **small, **none, **pair},
        "remix": {**remix, "clip_s": CLIP_S, "device": "cpu", "threads": 1, "batch_chunks": 1, "num_overlap": 1},
        "features": {"device": "cpu", "workers": 1, "batch_clips": 1},
        "train": {"clip_duration_s": CLIP_S},
        "embed": {"encoder": str(write_encoder(folder / "encoder.safetensors")), "device": "cpu", "workers": 1},
    }
    (folder / "p.yaml").write_text(yaml.safe_dump(sections))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("separate", *CONFIG) == 0
        assert run("index", "music", *INDEXED) == 0
    return folder


def write_trained(folder: Path) -> Path:
    """A profile whose stages up to training have run; its folder."""
    work = write_inputs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        for stage in STAGES[:4]:
            assert run(stage.name, *stage.words) == 0
    return work
