"""`mixstyle demo-songs`: the folder of rendered songs, killed and damaged (the songs: tests/pipeline/synth)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.stages.demo_songs.stage import demo_songs, song_seed

SHORT_S = 8.0


def tree_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs of seed 5, rendered without interruption."""
    folder = tmp_path_factory.mktemp("songs")
    summary = demo_songs(folder, 3, 5, SHORT_S, workers=1)
    assert (summary.songs, summary.rendered, summary.kept) == (3, 3, 0)
    return folder


def test_files_are_16_bit_and_stems_add_up_to_the_last_bit(folder: Path) -> None:
    listing = json.loads((folder / "songs.json").read_text())
    assert [song["index"] for song in listing["songs"]] == [0, 1, 2]
    for song in listing["songs"]:
        mixture = folder / "songs" / f"{song['name']}.flac"
        info = soundfile.info(mixture)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 2, "PCM_16")
        assert info.frames == round(SHORT_S * SAMPLE_RATE)
        parts = [
            soundfile.read(folder / "stems" / song["name"] / f"{stem}.flac", dtype="int16")[0].astype(int)
            for stem in STEMS
        ]
        whole = soundfile.read(mixture, dtype="int16")[0]
        assert np.array_equal(sum(parts), whole)
        assert mixture.read_bytes() == (folder / "stems" / song["name"] / "mixture.flac").read_bytes()
        assert song["seed"] == song_seed(5, song["index"])
        assert song["name"].startswith(f"{song['index']:04d}-{song['style']}-")


@pytest.mark.slow
def test_fewer_songs_by_two_workers_are_the_first_of_more(folder: Path, tmp_path: Path) -> None:
    demo_songs(tmp_path, 2, 5, SHORT_S, workers=2)
    two, three = tree_bytes(tmp_path), tree_bytes(folder)
    two_listed, three_listed = json.loads(two.pop("songs.json")), json.loads(three.pop("songs.json"))
    assert two_listed["songs"] == three_listed["songs"][:2]
    assert {name: three[name] for name in two} == two
    # asking for one more in the same folder adds it and leaves the others alone
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.flac")}
    summary = demo_songs(tmp_path, 3, 5, SHORT_S, workers=1)
    assert (summary.rendered, summary.kept) == (1, 2)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert tree_bytes(tmp_path) == tree_bytes(folder)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mixstyle.stages.demo_songs.stage import demo_songs\n"
        f"demo_songs(Path(sys.argv[1]), 2, 5, {SHORT_S}, workers=1)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("songs/*.flac")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert len(list(tmp_path.glob("songs/*.flac"))) == 1
    demo_songs(tmp_path, 2, 5, SHORT_S, workers=1)
    ended, unbroken = tree_bytes(tmp_path), tree_bytes(folder)
    del ended["songs.json"]
    assert ended == {name: unbroken[name] for name in ended}
    assert len(ended) == 2 * 6
    listed = [json.loads((place / "songs.json").read_text())["songs"] for place in (tmp_path, folder)]
    assert listed[0] == listed[1][:2]


def test_a_damaged_song_is_rendered_again(folder: Path) -> None:
    whole = tree_bytes(folder)
    damaged = next((folder / "stems").rglob("bass.flac"))
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert demo_songs(folder, 3, 5, SHORT_S, workers=1).rendered == 1
    assert tree_bytes(folder) == whole


@pytest.mark.parametrize(
    ("changed", "name"),
    [({"seed": 6}, "seed"), ({"duration_s": 9.0}, "duration_s"), ({"stems": False}, "stems"), ({"songs": 2}, "songs")],
)
def test_other_settings_in_the_same_folder_are_refused_by_name(
    folder: Path, changed: dict[str, object], name: str
) -> None:
    before = tree_bytes(folder)
    settings: dict[str, object] = {"songs": 3, "seed": 5, "duration_s": SHORT_S, "stems": True} | changed
    with pytest.raises(MixstyleError) as caught:
        demo_songs(folder, **settings)  # pyright: ignore[reportArgumentType]
    assert caught.value.code == "stale"
    assert f"demo_songs.{name}:" in str(caught.value)
    assert tree_bytes(folder) == before


def test_rebuild_replaces_our_songs_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "mine.flac").write_bytes(b"mine")
    (tmp_path / "songs" / "0000-pop-100bpm.flac").write_bytes(b"from another run")
    with pytest.raises(MixstyleError) as caught:
        demo_songs(tmp_path, 1, 5, SHORT_S)
    assert caught.value.code == "stale"
    assert "songs.json" in str(caught.value)
    (tmp_path / "songs.json").write_text('{"format": 99, "settings": {}, "songs": []}')
    with pytest.raises(MixstyleError) as caught:
        demo_songs(tmp_path, 1, 5, SHORT_S)
    assert caught.value.code == "unknown-version"
    assert "99" in str(caught.value)
    (tmp_path / "songs.json").write_text("not json")
    with pytest.raises(MixstyleError) as caught:
        demo_songs(tmp_path, 1, 5, SHORT_S)
    assert caught.value.code == "damaged-file"
    assert "songs.json" in str(caught.value)
    demo_songs(tmp_path, 1, 5, SHORT_S, stems=False, rebuild=True)
    names = sorted(path.name for path in (tmp_path / "songs").iterdir())
    assert len(names) == 2
    assert "mine.flac" in names
    assert not (tmp_path / "stems").exists()
    assert (tmp_path / "songs" / "mine.flac").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"songs": -1}, "songs"),
        ({"seed": -1}, "seed"),
        ({"duration_s": 3.0}, "duration_s"),
        ({"workers": 0}, "workers"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(
    tmp_path: Path, settings: dict[str, int], word: str
) -> None:
    with pytest.raises(MixstyleError) as caught:
        demo_songs(tmp_path / "new", **({"songs": 1, "seed": 1, "duration_s": SHORT_S} | settings))  # pyright: ignore[reportArgumentType]
    assert caught.value.code == "bad-setting"
    assert word in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(MixstyleError) as caught:
        demo_songs(tmp_path / "taken", 1, 1, SHORT_S)
    assert caught.value.code == "cannot-write"
    assert "taken" in str(caught.value)


def test_a_profile_with_its_own_music_asks_for_no_songs(tmp_path: Path) -> None:
    assert demo_songs(tmp_path / "none", 0, 0).rendered == 0
    assert not (tmp_path / "none").exists()
