"""Lists of music as people write them: no line is lost without a word."""

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixstyle.cache.music.listing import list_tracks, track_files, with_spot_checks
from mixstyle.cache.stem_store.manifest import read_fma_tracks
from mixstyle.pipeline.core.errors import MixstyleError


def listed(folder: Path, name: str, text: str) -> list[str]:
    (folder / name).write_text(text, encoding="utf-8")
    return list(list_tracks(folder / name, "mixtures").sizes)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('path,artist\na.wav,A\n"b.wav,B\nc.wav,C\nd.wav,D\n', 3),  # swallows the rest
        ('path,artist\na.wav,A\n"b.wav,B\nc.wav,"C"\nd.wav,D\n', 3),  # and is closed by a later one
        ('path,artist\n"Heroes".wav,Bowie\nb.wav,B\n', 2),
        ("path,artist\na.wav,A\nHello, World.wav,B\n", 3),
        ('path\n"a\nb.wav"\n', 2),
        ("path\na.wav\n" + '"' + "x" * 200_000 + "\n", 3),  # longer than the module takes
    ],
)
def test_a_csv_that_would_lose_rows_is_refused_by_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(MixstyleError) as caught:
        listed(tmp_path, "list.csv", text)
    assert caught.value.code == "bad-list"
    assert f"line {line} " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_may_be_separated_as_spreadsheets_of_any_country_do(tmp_path: Path, separator: str) -> None:
    text, rows = io.StringIO(newline=""), [["artist", "path"], ["A, B", "a,b;c\td.wav"], ["C", 'e "f".wav']]
    csv.writer(text, delimiter=separator).writerows(rows)
    (tmp_path / "list.csv").write_text(text.getvalue(), encoding="utf-8")
    listing = list_tracks(tmp_path / "list.csv", "mixtures")
    assert list(listing.sizes) == [row[1] for row in rows[1:]]
    assert dict(listing.artists) == {row[1]: row[0] for row in rows[1:]}


@pytest.mark.parametrize("text", ["", "\n", "file;artist\na.wav;A\n", "a.wav\nb.wav\n", "paths\ta\n"])
def test_a_csv_without_paths_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(MixstyleError) as caught:
        listed(tmp_path, "list.csv", text)
    assert caught.value.code == "bad-list"


def test_every_row_that_a_writer_of_csv_makes_is_read(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    rng = np.random.default_rng(0)
    letters = list("abc \"',;#é日\t|\\")
    names = sorted({"".join(rng.choice(letters, 12)).strip() + ".wav" for _ in range(200)})
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["artist", "path"])
    writer.writerows([f'A "{place}", B', name] for place, name in enumerate(names))
    assert sorted(listed(tmp_path, "list.csv", text.getvalue())) == names
    record_property("tried", len(names))


def test_a_name_that_begins_with_a_number_sign_is_no_comment(tmp_path: Path) -> None:
    (tmp_path / "#1 Hit.flac").write_bytes(b"x")
    text = "# my songs\n#1 Hit.flac\n  #1 Hit.flac  \n#gone.flac\na.wav\n#" + "x" * 5000 + "\n"
    assert listed(tmp_path, "list.txt", text) == ["#1 Hit.flac", "a.wav"]


def test_a_list_has_a_line_for_each_line_feed_alone(tmp_path: Path) -> None:
    """Titles of videos hold separators that Unicode counts as ends of lines."""
    names = ["a\u2028b.wav", "c\x0cd.wav", "e\x85f.wav"]
    assert listed(tmp_path, "list.txt", "\r\n".join(names) + "\r\n") == names


@pytest.mark.parametrize(("suffix", "head"), [(".txt", b""), (".csv", b"artist,path\nA,")])
def test_a_name_that_is_no_utf8_is_a_file_of_that_name_or_a_list_in_another_encoding(
    tmp_path: Path, suffix: str, head: bytes
) -> None:
    """As `find` writes them: the bytes of the names. In a list in Latin-1, no file has the bytes that stand there."""
    name = b"caf\xe9.wav"
    path = tmp_path / f"list{suffix}"
    path.write_bytes(head + name + b"\n")
    with pytest.raises(MixstyleError) as caught:
        list_tracks(path, "mixtures")
    assert (caught.value.code, r"caf\xe9.wav" in str(caught.value)) == ("bad-list", True)
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(b"four")
    assert dict(list_tracks(path, "mixtures").sizes) == {os.fsdecode(name): 4}


def test_artists_in_another_encoding_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"artist,path\nBj\xf6rk,a.wav\n")
    with pytest.raises(MixstyleError) as caught:
        list_tracks(tmp_path / "list.csv", "mixtures")
    assert caught.value.code == "bad-list"


def test_a_name_that_no_file_can_have_is_a_track_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a\0b.wav\n")
    for kind in ("mixtures", "stems"):
        listing = list_tracks(tmp_path / "list.txt", kind)
        assert dict(listing.sizes) == {"a\0b.wav": -1}
        with_spot_checks(listing, listing.sizes, kind)
    assert track_files(tmp_path, "a\0b.wav", "stems") == {}


def test_a_quotation_mark_that_is_not_closed_hides_no_artists_of_fma(tmp_path: Path) -> None:
    head = ",artist,track\n,id,title\ntrack_id,,\n"
    (tmp_path / "tracks.csv").write_text(head + '2,1,Food\n3,1,"Electric\n5,7,This\n')
    with pytest.raises(MixstyleError) as caught:
        read_fma_tracks(tmp_path / "tracks.csv")
    assert caught.value.code == "bad-list"
    (tmp_path / "tracks.csv").write_text(head + '2,1,Food\n3,1,"Electric ""Ave"""\n5,7,This\n')
    assert read_fma_tracks(tmp_path / "tracks.csv")[0] == {2: "1", 3: "1", 5: "7"}


@pytest.mark.parametrize(
    ("head", "column"),
    [
        ("path,artist,path", "path"),
        ("path;path", "path"),
        ("artist,path,artist", "artist"),
        ("path,licence,licence", "licence"),
        ("path,license,title,license", "license"),
        ("path,licence,license", "licence"),  # two spellings of one
    ],
)
def test_a_csv_with_two_columns_of_a_name_that_is_read_is_refused(tmp_path: Path, head: str, column: str) -> None:
    row = "a.wav" + "".join(f"{one}x" for one in head if one in ",;")
    with pytest.raises(MixstyleError) as caught:
        listed(tmp_path, "list.csv", f"{head}\n{row}\n")
    assert caught.value.code == "bad-list"
    assert f"`{column}`" in caught.value.message
    assert str(tmp_path / "list.csv") in caught.value.message


def test_columns_that_are_not_read_may_be_there_twice(tmp_path: Path) -> None:
    assert listed(tmp_path, "list.csv", "path,title,title\na.wav,x,y\n") == ["a.wav"]


@pytest.mark.parametrize("twice", [("artist", "id"), ("track", "license")])
def test_fma_tracks_with_a_column_twice_is_refused(tmp_path: Path, twice: tuple[str, str]) -> None:
    columns = [("", ""), ("artist", "id"), ("track", "license"), twice]
    rows = [",".join(column[row] for column in columns) for row in (0, 1)]
    (tmp_path / "tracks.csv").write_text("\n".join([*rows, "2,7,CC0,8"]) + "\n", encoding="utf-8")
    with pytest.raises(MixstyleError) as caught:
        read_fma_tracks(tmp_path / "tracks.csv")
    assert caught.value.code == "bad-list"
    assert "/".join(twice) in caught.value.message
