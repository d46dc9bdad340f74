"""The manifest: every track once, in an order of its own, clips apart, and nothing on two sides of the split."""

import gzip
import hashlib
import itertools
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
from helpers.numbers import numbers

from mixstyle.cache.music.listing import REFUSED_SHOWN, Listing, describe_change, list_tracks, with_spot_checks
from mixstyle.cache.stem_store.manifest import (
    VERSION,
    SplitSettings,
    load_manifest,
    make_manifest,
    ordered,
    read_fma_tracks,
    store_manifest,
)
from mixstyle.pipeline.core.errors import MixstyleError

SPLIT = SplitSettings(seed=0, validation_fraction=0.1, test_fraction=0.2)


def listing_of(paths: list[str]) -> Listing:
    return Listing(Path("music"), dict.fromkeys(paths, 1))


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def write(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = np.random.default_rng(seed).integers(-3_000, 3_000, (4_410, 2)).astype(np.int16)
    soundfile.write(path, audio, 44_100)
    return path


def test_a_tree_is_walked_once_whatever_links_there_are(tmp_path: Path) -> None:
    music = tmp_path / "music"
    for name in (
        "b/song.MP3",
        "b/ä ö/lied nr. 1.flac",
        "a.ogg",
        "b/.hidden.mp3",
        ".trash/x.mp3",
        "b/cover.jpg",
        "list.txt",
    ):
        touch(music / name)
    (music / "a_loop").symlink_to(music)
    (music / "b" / "up").symlink_to("..")
    (music / "b" / "again").symlink_to(music / "b" / "ä ö")
    elsewhere = touch(tmp_path / "elsewhere" / "more" / "x.wav")
    (music / "linked").symlink_to(elsewhere.parent.parent)
    (elsewhere.parent / "back").symlink_to(music)
    (music / "gone.mp3").symlink_to("nowhere.mp3")
    (music / "circle.mp3").symlink_to("circle.mp3")
    (music / "folder.mp3").mkdir()
    touch(music / "folder.mp3" / "in.wav")
    listing = list_tracks(music, "mixtures")
    assert sorted(listing.sizes) == [
        "a.ogg", "b/song.MP3", "b/ä ö/lied nr. 1.flac", "circle.mp3", "folder.mp3/in.wav", "gone.mp3",
        "linked/more/x.wav",
    ]  # fmt: skip
    assert listing.sizes["gone.mp3"] == listing.sizes["circle.mp3"] == -1


def test_a_folder_that_lies_too_deep_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beyond the system's 4,096 bytes a path: nobody may read it, not even root."""
    music = tmp_path / "music"
    touch(music / "a.wav")
    before, folder = Path.cwd(), "d" * 250
    os.chdir(music)
    try:
        for _ in range(18):
            os.mkdir(folder)  # noqa: PTH102 (relative to where we are: its whole path is too long)
            os.chdir(folder)
        Path("lost.wav").touch()
    finally:
        os.chdir(before)
    for _ in range(2):
        assert list(list_tracks(music, "mixtures").sizes) == ["a.wav"]
    errors = capsys.readouterr().err
    assert (errors.count("\n"), errors.startswith(f"mixstyle: warning: {music}/{folder}/")) == (1, True), errors


def test_folders_that_this_user_may_not_read_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory(dir=tempfile.gettempdir()) as folder:
        music = Path(folder)
        music.chmod(0o755)
        touch(music / "open" / "a.wav")
        closed = [music / f"closed {number}" for number in range(REFUSED_SHOWN + 2)]
        for each in closed:
            touch(each / "b.wav")
            each.chmod(0)
        try:
            with as_nobody():
                assert list(list_tracks(music, "mixtures").sizes) == ["open/a.wav"]
                with pytest.raises(MixstyleError) as caught:
                    list_tracks(closed[0], "mixtures")
        finally:
            for each in closed:
                each.chmod(0o755)
    assert (caught.value.code, str(closed[0]) in str(caught.value)) == ("no-music", True)
    *named, more = capsys.readouterr().err.splitlines()
    assert [line.startswith(f"mixstyle: warning: {each}: ") for line, each in zip(named, closed, strict=False)] == [
        True
    ] * REFUSED_SHOWN
    assert numbers(more)[0] == 2


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: then as a user who may not."""
    if os.geteuid():
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_names_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp3")
    try:
        touch(tmp_path / name)
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    touch(tmp_path / "b.mp3")
    manifest = make_manifest(list_tracks(tmp_path, "mixtures"), "mixtures", SPLIT)
    store_manifest(tmp_path / "manifest.gz", manifest)
    loaded = load_manifest(tmp_path / "manifest.gz")
    assert loaded == manifest
    assert loaded is not None
    assert (tmp_path / next(t.path for t in loaded.tracks if t.path != "b.mp3")).exists()


def test_lists_are_relative_to_their_folder(tmp_path: Path) -> None:
    one, two = touch(tmp_path / "lists" / "one.mp3"), touch(tmp_path / "two, too.mp3")
    text = tmp_path / "lists" / "some.txt"
    text.write_text(f"# comment\none.mp3\n\n{two}\none.mp3\n./gone.mp3\n", encoding="utf-8-sig")
    listing = list_tracks(text, "mixtures")
    assert listing.root == one.parent
    assert dict(listing.sizes) == {"one.mp3": 0, str(two): 0, "gone.mp3": -1}
    table = tmp_path / "lists" / "some.csv"
    table.write_text(f'artist,path,licence\nA,one.mp3,CC0\n,"{two}",\n')
    listing = list_tracks(table, "mixtures")
    assert dict(listing.artists) == {"one.mp3": "A"}
    assert dict(listing.licences) == {"one.mp3": "CC0"}
    assert make_manifest(listing, "mixtures", SPLIT).grouped_by == "artist, by the list"


def test_what_cannot_be_listed_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("file\na.mp3\n")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9.mp3\n")
    refused: list[tuple[str, Literal["mixtures", "stems"], str]] = [
        ("none", "mixtures", "not-found"),
        ("empty", "mixtures", "no-music"),
        ("empty", "stems", "no-music"),
        (touch(tmp_path / "a.mp3").name, "mixtures", "bad-list"),
        ("a.csv", "mixtures", "bad-list"),
        ("b.txt", "mixtures", "bad-list"),
    ]
    for name, kind, code in refused:
        with pytest.raises(MixstyleError) as caught:
            list_tracks(tmp_path / name, kind)
        told = f"separate.data_path={tmp_path / name}:"
        assert (caught.value.code, told in str(caught.value)) == (code, True), str(caught.value)


def test_order_and_ids_hang_on_paths_alone() -> None:
    paths = [f"{i // 10}/{i}.mp3" for i in range(200)]
    manifest = make_manifest(listing_of(paths), "mixtures", SPLIT, find_duplicates=False)
    backwards = make_manifest(listing_of(paths[::-1]), "mixtures", SPLIT, find_duplicates=False)
    assert manifest.tracks == backwards.tracks
    assert [t.index for t in manifest.tracks] == list(range(200))
    assert sorted(t.path for t in manifest.tracks) == sorted(paths)
    assert [t.path for t in manifest.tracks] != sorted(paths)
    assert all(t.track_id == hashlib.sha256(t.path.encode()).hexdigest()[:12] for t in manifest.tracks)
    fewer = make_manifest(listing_of(paths[:100]), "mixtures", SPLIT, find_duplicates=False)
    kept = [t.path for t in manifest.tracks if t.path in set(paths[:100])]
    assert [t.path for t in fewer.tracks] == kept
    shards = [manifest.shard(k, 32) for k in range(manifest.n_shards(32))]
    assert [len(shard) for shard in shards] == [32] * 6 + [8]
    assert tuple(itertools.chain(*shards)) == manifest.tracks


def test_the_split_has_its_fractions_and_keeps_a_tracks_side() -> None:
    paths = [f"{i}.mp3" for i in range(5_000)]
    manifest = make_manifest(listing_of(paths), "mixtures", SPLIT, find_duplicates=False)
    assert manifest.grouped_by == "track"
    counts = Counter(t.split for t in manifest.tracks)
    # binomial deviations are 21 and 28 tracks
    assert abs(counts["validation"] - 500) < 4 * 21
    assert abs(counts["test"] - 1_000) < 4 * 28
    fewer = make_manifest(listing_of(paths[::2]), "mixtures", SPLIT, find_duplicates=False)
    sides = {t.path: t.split for t in manifest.tracks}
    assert all(sides[t.path] == t.split for t in fewer.tracks)


@pytest.mark.parametrize("seed", range(10))
def test_no_side_is_empty_where_three_can_be_filled(seed: int) -> None:
    split = SplitSettings(seed, 0.01, 0.01)
    manifest = make_manifest(listing_of(["a.mp3", "b.mp3", "c.mp3"]), "mixtures", split, find_duplicates=False)
    assert Counter(t.split for t in manifest.tracks) == {"train": 1, "validation": 1, "test": 1}
    none = make_manifest(listing_of(["a.mp3", "b.mp3", "c.mp3"]), "mixtures", SplitSettings(seed, 0, 0), False)
    assert {t.split for t in none.tracks} == {"train"}


def test_top_folders_are_artists_unless_they_are_numbers_or_few() -> None:
    artists = [f"artist {a}/album {b}/{c}.mp3" for a in range(30) for b in range(2) for c in range(3)]
    manifest = make_manifest(listing_of(artists), "mixtures", SPLIT, find_duplicates=False)
    assert manifest.grouped_by == "artist, by top folder"
    sides: dict[str, set[str]] = {}
    for t in manifest.tracks:
        sides.setdefault(t.path.partition("/")[0], set()).add(t.split)
    assert all(len(found) == 1 for found in sides.values())
    assert len({side for found in sides.values() for side in found}) == 3
    fma = [f"{i:03d}/{i:03d}{j:03d}.mp3" for i in range(30) for j in range(5)]
    assert make_manifest(listing_of(fma), "mixtures", SPLIT, False).grouped_by == "track"
    few = [f"{name}/{i}.mp3" for name in "abc" for i in range(9)]
    assert make_manifest(listing_of(few), "mixtures", SPLIT, False).grouped_by == "track"


def test_fma_tracks_csv_tells_artists_and_licences(tmp_path: Path) -> None:
    table = tmp_path / "tracks.csv"
    rows = [f'{i},x,{i % 40},"Attribution, {i}"' for i in range(200)]
    table.write_text(",album,artist,track\n,title,id,license\ntrack_id,,,\n" + "\n".join(rows) + "\n")
    artists, licences = read_fma_tracks(table)
    assert artists[45] == "5"
    assert licences[45] == "Attribution, 45"
    paths = [f"{i // 100:03d}/{i:06d}.mp3" for i in range(210)]
    split = SplitSettings(0, 0.1, 0.2, table)
    manifest = make_manifest(listing_of(paths), "mixtures", split, find_duplicates=False)
    assert manifest.grouped_by == "artist, by tracks.csv"
    sides: dict[str, set[str]] = {}
    for t in manifest.tracks:
        number = int(Path(t.path).stem)
        known = number < 200
        assert t.licence == (f"Attribution, {number}" if known else "")
        sides.setdefault(str(number % 40) if known else t.path, set()).add(t.split)
    assert len(sides) == 50
    assert all(len(found) == 1 for found in sides.values())
    table.write_text("a,b\nc,d\n")
    with pytest.raises(MixstyleError) as caught:
        read_fma_tracks(table)
    assert (caught.value.code, f"separate.tracks_csv={table}" in str(caught.value)) == ("bad-list", True)


def test_identical_audio_never_lies_on_two_sides(tmp_path: Path) -> None:
    # each artist shares a song with the next one, so all of them belong together, whatever their own hashes say
    for artist in range(12):
        write(tmp_path / f"artist {artist}" / "own.wav", seed=artist)
        write(tmp_path / f"artist {artist}" / "shared.flac", seed=100 + artist)
        write(tmp_path / f"artist {(artist + 1) % 12}" / "borrowed.wav", seed=100 + artist)
    for lone in range(30):
        write(tmp_path / f"lone {lone}" / "song.wav", seed=1_000 + lone)
    listing = list_tracks(tmp_path, "mixtures")
    apart = make_manifest(listing, "mixtures", SPLIT, find_duplicates=False)
    assert len({t.split for t in apart.tracks if t.path.startswith("artist")}) > 1  # they would be torn apart
    manifest = make_manifest(listing, "mixtures", SPLIT)
    assert len({t.split for t in manifest.tracks if t.path.startswith("artist")}) == 1
    assert len({t.split for t in manifest.tracks}) == 3


def test_a_manifest_comes_back_and_has_equal_bytes(tmp_path: Path) -> None:
    for i in range(5):
        write(tmp_path / "music" / f"lied {i} ü.wav", seed=i)
    listing = list_tracks(tmp_path / "music", "mixtures")
    listing = with_spot_checks(listing, ordered(listing, 0)[:3], "mixtures")
    manifest = make_manifest(listing, "mixtures", SPLIT)
    path = tmp_path / "plan.jsonl.gz"
    assert load_manifest(path) is None
    store_manifest(path, manifest)
    first = path.read_bytes()
    loaded = load_manifest(path)
    assert loaded == manifest
    assert loaded is not None
    assert loaded.listing.digest == listing.digest
    store_manifest(path, loaded)
    assert path.read_bytes() == first
    path.write_bytes(first[:-20])
    with pytest.raises(MixstyleError) as caught:
        load_manifest(path)
    assert (caught.value.code, str(path) in str(caught.value)) == ("damaged-file", True)


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ({"version": 99, "tracks": 0}, "unknown-version"),
        ({"tracks": 0}, "unknown-version"),
        ({"version": VERSION, "tracks": 1}, "damaged-file"),
        ([], "damaged-file"),
    ],
)
def test_a_manifest_of_an_unknown_version_is_told_from_a_damaged_one(tmp_path: Path, head: object, code: str) -> None:
    path = tmp_path / "plan.jsonl.gz"
    path.write_bytes(gzip.compress(f"{json.dumps(head)}\n".encode()))
    with pytest.raises(MixstyleError) as caught:
        load_manifest(path)
    assert (caught.value.code, caught.value.remedy) == (code, ("separate",))


def test_a_changed_folder_is_described(tmp_path: Path) -> None:
    music = tmp_path / "music"
    for i in range(5):
        write(music / f"{i}.wav", seed=i)

    def listed() -> Listing:
        listing = list_tracks(music, "mixtures")
        return with_spot_checks(listing, ordered(listing, 0), "mixtures")

    before = listed()
    assert listed().digest == before.digest
    (music / "0.wav").unlink()
    write(music / "5.wav", seed=5)
    write(music / "6.wav", seed=6)
    write(music / "1.wav", seed=7)  # the same name and size, other audio
    now = listed()
    assert now.digest != before.digest
    assert describe_change(before, now) == "2 files added, 1 removed, 1 changed since the manifest was made"
    write(music / "1.wav", seed=1)
    (music / "5.wav").unlink()
    (music / "6.wav").unlink()
    assert describe_change(before, listed()) == "1 file removed since the manifest was made"
