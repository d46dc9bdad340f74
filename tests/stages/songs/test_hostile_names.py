"""Songs whose names and samples are hostile: each is read or left out with its reason, told as it is, and never mixed
up with another one."""

import csv
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from helpers.numbers import numbers
from helpers.small_encoder import embedding_profile
from helpers.small_separator import RATE, song

from mixstyle.cache.music.music_file import UnreadableMusic
from mixstyle.cache.song_index.index import SongIndex
from mixstyle.cache.song_index.place import LEFT_OUT
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.songs_left_out import MOST_LINES
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.browse.songs import Songs
from mixstyle.stages.songs.describe.stage import describe_songs
from mixstyle.stages.songs.embed.stage import embed, embedder_of
from mixstyle.stages.songs.index.stage import index
from mixstyle.stages.songs.search.stage import search
from mixstyle.stages.songs.whole_song import WholeSong

pytestmark = pytest.mark.usefixtures("one_thread")

BRACKETS = "Song [live] :smile: [bold]b.flac"
NAMES = {
    os.fsdecode(b"caf\xe9.flac"): r"caf\xe9.flac",
    BRACKETS: BRACKETS,
    "two\nlines, red\x1b[31m\x07.flac": r"two\nlines, red\x1b[31m\x07.flac",
    f"{'n' * 250}.flac": f"{'n' * 250}.flac",
}
"""Names of files, and how they are to be printed."""
ABSURD = {"huge.wav": 1e30, "integers.wav": 32_768.0, "infinite.wav": np.inf}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "music").mkdir()
    for place, name in enumerate(NAMES):
        with (folder / "music" / name).open("wb") as file:
            soundfile.write(file, song(place, 1.2), RATE, format="FLAC")
    for name, sample in ABSURD.items():
        audio = song(20, 1.2)
        if name == "integers.wav":
            audio *= sample
        else:
            audio[3, 0] = sample
        soundfile.write(folder / "music" / name, audio, RATE, subtype="FLOAT")
    return embedding_profile(folder, folder / "music")


def shown(printed: str) -> str:
    """What was printed, if a terminal would show it as it is, without its line breaks."""
    printed.encode("utf-8")
    assert not {c for c in printed if ord(c) < 32 and c != "\n"}
    return "".join(line.strip() for line in printed.splitlines())


def test_every_song_is_indexed_and_no_value_of_the_index_is_not_finite(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    songs = index(settings, settings.separate.data_path)
    assert {song.path for song in songs.usable} == set(NAMES)
    assert {song.path: song.reason.partition(":")[0] for song in songs.failed} == {
        "huge.wav": "beyond full scale",
        "integers.wav": "beyond full scale",
        "infinite.wav": "not finite",
    }
    shown("".join(capsys.readouterr()))
    for part in settings.embed.index_dir.glob("songs-*.parquet"):
        for row in pq.read_table(part).to_pylist():
            numbers = [*row["embedding"], *row["descriptors"], row["duration_s"]]
            numbers += [value for name, value in row.items() if name.endswith(("_lufs", "_lu", "_dbtp"))]
            assert np.isfinite([number for number in numbers if number is not None]).all(), row["path"]
    rows = list(csv.DictReader((settings.embed.index_dir / LEFT_OUT).open(encoding="utf-8")))
    assert [row["path"] for row in rows] == sorted(ABSURD)
    # what was left out is left alone, and the query is told by its name
    found = search(settings, settings.separate.data_path / next(iter(NAMES)), 9)
    assert {match.song.path for match in found} == set(NAMES) - {next(iter(NAMES))}
    told = shown("".join(capsys.readouterr()))
    assert r"caf\xe9.flac" in told
    assert BRACKETS in told


def test_embeddings_have_a_line_each_and_the_users_list_stays(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "songs.txt").write_text("my list\n")
    paths = [settings.separate.data_path / name for name in NAMES]
    assert embed(settings, paths, tmp_path / "songs.npy") == len(NAMES)
    assert (tmp_path / "songs.txt").read_text() == "my list\n"
    lines = (tmp_path / "songs.paths.txt").read_text(encoding="utf-8").split("\n")
    assert lines == [*(f"{settings.separate.data_path}/{name}" for name in NAMES.values()), ""]
    assert len(np.load(tmp_path / "songs.npy")) == len(NAMES)
    shown("".join(capsys.readouterr()))
    with pytest.raises(MixstyleError) as caught:
        embed(settings, [tmp_path / "songs.npy"], tmp_path / "songs.npy")
    assert caught.value.code == "bad-option"


def test_descriptions_show_names_as_they_are_and_songs_of_one_name_by_their_folders(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [next(iter(NAMES)), f"{'n' * 250}.flac"]
    paths = [settings.separate.data_path / name for name in odd]
    for place, folder in enumerate(("A [live] :smile:", "C - D")):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "mixture.wav")
        soundfile.write(paths[-1], song(40 + place, 1.2), RATE)
    names = [*odd, "A [live] :smile:/mixture.wav", "C - D/mixture.wav"]
    pages = {r"caf\xe9.png", f"{'n' * 250}.png", "A [live] :smile: - mixture.png", "C - D - mixture.png"}
    found = describe_songs(settings, paths, None, tmp_path / "a.csv", tmp_path / "a.json", tmp_path / "pages")
    assert [one.name for one in found] == names
    told = shown("".join(capsys.readouterr()))
    stored = [NAMES.get(name, name) for name in names]
    assert all(name[:120] in told for name in stored)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(dict.fromkeys(row["song"] for row in csv.DictReader(file))) == stored
    assert [one["song"] for one in json.loads((tmp_path / "a.json").read_text())["songs"]] == stored
    assert {path.name for path in (tmp_path / "pages").iterdir()} == pages
    before = paths[-1].read_bytes()
    with pytest.raises(MixstyleError) as caught:
        describe_songs(settings, paths, None, paths[-1])
    assert (caught.value.code, paths[-1].read_bytes()) == ("bad-option", before)


def test_a_query_is_not_found_by_a_link_to_it(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    for place in range(2):
        soundfile.write(tmp_path / f"{place}.flac", song(60 + place, 1.2), RATE)
        (tmp_path / "links" / f"{place}.flac").symlink_to(tmp_path / f"{place}.flac")
    (tmp_path / "links" / "again.flac").symlink_to(tmp_path / "0.flac")
    linked = dataclasses.replace(settings, embed=dataclasses.replace(settings.embed, index_dir=tmp_path / "index"))
    os.link(tmp_path / "1.flac", tmp_path / "links" / "hard.flac")
    found = index(linked, tmp_path / "links")
    for query in (tmp_path / "0.flac", tmp_path / "links" / "0.flac"):
        assert {match.song.path for match in search(linked, query, 3)} == {"1.flac", "hard.flac"}
    page = Songs(found, tmp_path / "links")
    assert page.names == ["0.flac", "1.flac", "again.flac", "hard.flac"]
    near = [{page.names[other.song] for other in page.near(page.track(song))} for song in range(4)]
    assert near == 2 * [{"1.flac", "hard.flac"}, {"0.flac", "again.flac"}]


def test_rows_of_before_that_are_not_finite_are_songs_without_an_embedding(settings: Settings, tmp_path: Path) -> None:
    vector = np.full(4, 0.5, np.float32)
    good, bad = np.array([0, np.nan], np.float32), np.array([0, 1], np.float32)
    table = {
        "path": [b"a", b"b", b"c"],
        "bytes": [1, 1, 1],
        "modified_ns": [1, 1, 1],
        "duration_s": [1.0, 1.0, 1.0],
        "embedding": [vector.tolist(), (vector * np.nan).tolist(), vector.tolist()],
        "descriptors": [bad.tolist(), bad.tolist(), good.tolist()],
        "reason": ["", "", ""],
    }
    import pyarrow as pa

    pq.write_table(
        pa.table(table, metadata={"mixstyle_index": "1"}).cast(
            pa.schema(
                [
                    ("path", pa.binary()),
                    ("bytes", pa.int64()),
                    ("modified_ns", pa.int64()),
                    ("duration_s", pa.float64()),
                    ("embedding", pa.list_(pa.float32())),
                    ("descriptors", pa.list_(pa.float32())),
                    ("reason", pa.string()),
                ],
                metadata={"mixstyle_index": "1"},
            )
        ),
        tmp_path / "songs-00000000.parquet",
    )
    songs = SongIndex(tmp_path)
    assert [song.path for song in songs.usable] == ["a"]
    assert {song.path: song.reason.partition(":")[0] for song in songs.failed} == {"b": "not finite", "c": "not finite"}
    assert [song.path for song, score in songs.search(vector, 3) if np.isfinite(score)] == ["a"]


def test_many_songs_that_are_left_out_take_few_lines(
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    many = 300
    record_property("tried", many)
    (tmp_path / "music").mkdir()
    for place in range(many):
        (tmp_path / "music" / f"{place:05}.mp3").symlink_to(tmp_path / "gone")
    empty = dataclasses.replace(settings, embed=dataclasses.replace(settings.embed, index_dir=tmp_path / "index"))
    with pytest.raises(MixstyleError) as caught:
        index(empty, tmp_path / "music")
    assert caught.value.code == "no-music"
    lines = capsys.readouterr().err.splitlines()
    assert sum(".mp3" in line for line in lines) == MOST_LINES
    with (tmp_path / "index" / LEFT_OUT).open(encoding="utf-8") as file:
        (kind,) = {row["reason"].partition(":")[0] for row in csv.DictReader(file)}
    (others,) = (line for line in lines if kind in line and ".mp3" not in line)
    assert numbers(others)[:2] == [many - MOST_LINES] * 2, "of them all, and of this kind"
    assert len((tmp_path / "index" / LEFT_OUT).read_text().splitlines()) == 1 + many


def test_weights_that_are_not_finite_leave_every_song_out(settings: Settings) -> None:
    with embedder_of(settings) as embedder:
        parameter = next(embedder.encoder.encoder.parameters())
        parameter.data.fill_(float("nan"))
        with pytest.raises(MixstyleError) as caught:
            embedder.song(settings.separate.data_path / BRACKETS)
    assert caught.value.code == "not-finite"


def test_a_pipe_among_songs_is_left_out_and_not_waited_for(settings: Settings, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with embedder_of(settings) as embedder:
        (found,) = embedder.songs([tmp_path / "pipe.wav"], 1)
    assert isinstance(found, UnreadableMusic)
    assert found.kind == "not a file"
    with pytest.raises(MixstyleError) as caught:
        _ = WholeSong(tmp_path / "pipe.wav").look
    assert caught.value.code == "no-music"
