"""Songs of equal names are told apart, and each has a file of its own."""

import os
from pathlib import Path

from mixstyle.stages.songs.names import distinct_names, page_names


def test_names_are_as_short_as_they_can_be() -> None:
    assert distinct_names([Path("/m/a/x.wav"), Path("/m/b/x.wav"), Path("/n/b/x.wav"), Path("y.wav")]) == [
        "a/x.wav",
        "m/b/x.wav",
        "n/b/x.wav",
        "y.wav",
    ]
    assert distinct_names([Path("x.wav"), Path("x.wav")])[1].endswith("x.wav (2)")
    assert distinct_names([]) == []


def test_a_folder_that_is_spelled_by_dots_has_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "A - B" / "deep").mkdir(parents=True)
    assert distinct_names([tmp_path / "A - B" / "deep" / ".."]) == ["A - B"]


def test_every_page_has_a_name_of_its_own_that_a_file_may_have() -> None:
    long = "n" * 251
    names = ["a/mixture.wav", "b/mixture.wav", "x.wav", "X.flac", "x (2).mp3", f"{long}.au", f"{long}.mp3", "é" * 125]
    found = page_names([*names, "two\nlines.wav", os.fsdecode(b"caf\xe9.wav")], ".png")
    assert len({name.casefold() for name in found}) == len(found)
    assert max(len(os.fsencode(name)) for name in found) <= 255
    assert found[:3] == ["a - mixture.png", "b - mixture.png", "x.png"]
    assert all("/" not in name and name.isprintable() for name in found)
