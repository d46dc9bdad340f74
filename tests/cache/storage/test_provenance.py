"""What outputs were made from: compared, refused, rebuilt, and read as earlier versions wrote it."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.numbers import numbers

from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.cache.storage.provenance import Provenance, differences, guard, read_provenance
from mixstyle.pipeline.core.errors import MixstyleError


def refusal(path: Path, provenance: Provenance, **options: Any) -> MixstyleError:
    with pytest.raises(MixstyleError) as caught:
        guard(path, provenance, rebuild=False, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def write_version_1(path: Path, stage: str, settings: dict[str, Any]) -> None:
    """As mixstyle 0.1 wrote it."""
    content = {"version": 1, "stage": stage, "fingerprint": fingerprint(settings), "settings": settings}
    path.write_text(json.dumps(content))


def test_fingerprint_is_of_the_values() -> None:
    assert fingerprint({"a": Path("x/y"), "b": (1, 2)}) == fingerprint({"b": [1, 2], "a": "x/y"})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_a_name_stands_once() -> None:
    with pytest.raises(ValueError, match="train"):
        Provenance("train", {"stems": 1}, made_from={"stems": "aa"})


def test_a_place_that_is_spelled_otherwise_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("music")
    (tmp_path / "table (1).csv").touch()
    monkeypatch.chdir(tmp_path)

    def changed(was: Any, now: Any) -> bool:
        return bool(differences(Provenance("separate", {"path": was}), Provenance("separate", {"path": now})))

    for spelled in ("./music", "music/", str(tmp_path / "music"), "link", "other/../music"):
        assert not changed("music", spelled)
        assert not changed(["other", "music"], ["other", spelled])
    assert not changed("table (1).csv (ab12)", "./table (1).csv (ab12)")
    for was, now in (
        ("music", "other"),
        ("music", "gone"),
        ("gone", "./gone"),  # nobody knows what it was
        ("music", ["music"]),
        (["music"], ["music", "./music"]),
        ("table (1).csv (ab12)", "./table (1).csv (cd34)"),
        ("", "."),
        (1, 2),
    ):
        assert changed(was, now), (was, now)
    made = guard(tmp_path / "settings.json", Provenance("separate", {"path": "music"}), rebuild=False)
    again = guard(tmp_path / "settings.json", Provenance("separate", {"path": "./music/"}), rebuild=False)
    assert again.fingerprint == made.fingerprint


def test_differences_are_told_by_name() -> None:
    old = Provenance("train", {"seed": 0, "gone": True}, {"tasks_version": 2}, {"stems": "aa"})
    new = Provenance("train", {"seed": 0, "b": {"c": 2}}, {"tasks_version": 3}, {"stems": "bb"})
    assert differences(old, new, told={"stems": "the stems are others"}) == [
        "train.b: (not set) -> {'c': 2}",
        "train.gone: True -> (not set)",
        "the stems are others",
        "tasks version: 2 -> 3",
    ]
    assert differences(old, old) == []


def test_guard_refuses_by_name_and_rebuilds_only_when_told(tmp_path: Path) -> None:
    path, output, tree = tmp_path / "settings.json", tmp_path / "out.bin", tmp_path / "out.zarr"
    old = Provenance("separate", {"clip_s": 10.0, "seed": 0}, {"format": 1}, {"listing": "aa"})
    new = Provenance("separate", {"clip_s": 5.0, "seed": 0}, {"format": 1}, {"listing": "bb"})
    first = guard(path, old, rebuild=False, remove=[output, tree])
    assert first.fingerprint == fingerprint({"clip_s": 10.0, "seed": 0, "format": 1, "listing": "aa"})
    output.write_bytes(b"made with old")
    tree.mkdir()
    (tree / "chunk").write_bytes(b"made with old")
    assert guard(path, old, rebuild=False, remove=[output]) == first
    assert guard(path, old, rebuild=True, remove=[output]) == first
    assert output.exists()  # --rebuild throws away only what was made otherwise

    error = refusal(path, new, remove=[output], told={"listing": "12 files added"})
    assert error.code == "stale"
    assert error.remedy == ("separate", "--rebuild")
    assert "separate.clip_s: 10.0 -> 5.0; " in error.message
    assert numbers(error.message)[-1] == 12, "files"
    assert "seed" not in error.message
    assert read_provenance(path) == old

    second = guard(path, new, rebuild=True, remove=[output, tree])
    assert second.fingerprint != first.fingerprint
    assert not output.exists()
    assert not tree.exists()
    assert read_provenance(path) == new


def test_a_hidden_difference_is_one_all_the_same(tmp_path: Path) -> None:
    guard(tmp_path / "settings.json", Provenance("separate", {"tracks": 3}), rebuild=False)
    refused = refusal(tmp_path / "settings.json", Provenance("separate", {"tracks": 4}), told={"tracks": ""})
    assert refused.code == "stale"


def test_outputs_of_unknown_origin_and_unknown_versions_are_refused(tmp_path: Path) -> None:
    path, output = tmp_path / "settings.json", tmp_path / "out.bin"
    output.write_bytes(b"?")
    made = Provenance("train", {"a": 1})
    refused = refusal(path, made, remove=[output], remedy=("index", "/music", "--rebuild"))
    assert refused.code == "stale"
    assert refused.remedy == ("index", "/music", "--rebuild")
    assert "out.bin" in refused.message
    elsewhere = tmp_path / "logs" / "events"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"?")
    assert str(elsewhere) in refusal(path, made, remove=[elsewhere]).message
    guard(path, made, rebuild=True, remove=[output])
    assert not output.exists()
    path.write_text(json.dumps({**made.to_json(), "version": 3}))
    assert "version 3" in refusal(path, made).message
    with pytest.raises(MixstyleError) as caught:
        read_provenance(path)
    assert caught.value.code == "unknown-version"
    for damaged in ('{"version": 2}', '{"version": 2, "settings": [1]}', "[]", '"x"'):
        path.write_text(damaged)
        with pytest.raises(MixstyleError) as caught:
            read_provenance(path)
        assert caught.value.code in ("damaged-file", "unknown-version")
    guard(path, made, rebuild=True)
    assert read_provenance(path) == made


def test_notes_are_kept_and_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    first = guard(path, Provenance("separate", {"a": 1}, notes={"why": "x"}), rebuild=False)
    assert guard(path, Provenance("separate", {"a": 1}), rebuild=False).notes == {"why": "x"}
    assert first.fingerprint == fingerprint({"a": 1})


def test_version_1_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    stored = {"seed": 0, "format": 1, "listing": "aa", "threads_per_lane": 2}
    write_version_1(path, "separate", stored)
    before = path.read_bytes()
    now = Provenance("separate", {"seed": 0, "threads_per_stream": 2}, {"format": 1, "cutting": 1}, {"listing": "aa"})
    renamed = {"threads_per_lane": "threads_per_stream"}
    kept = guard(path, now, rebuild=True, renamed=renamed)
    assert path.read_bytes() == before
    assert kept.fingerprint == fingerprint(stored), "the shards there tell the old one"
    assert kept.flat["threads_per_stream"] == 2
    assert refusal(path, now).code == "stale", "without the old name it is another setting"
    later = Provenance("separate", now.settings, {"format": 1, "cutting": 2}, now.made_from)
    assert "cutting: 1 -> 2" in refusal(path, later, renamed=renamed).message, "what is not stored is version 1"


def test_an_input_of_version_1_may_have_the_name_of_a_setting(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    stored = {"checkpoints": ["a.pt"], "made_from": {"stems": "aa", "checkpoints": ["cc"]}}
    write_version_1(path, "evaluate", stored)
    now = Provenance("evaluate", {"checkpoints": ["a.pt"]}, made_from={"stems": "aa", "encoders": ["cc"]})
    renamed = {"made_from.checkpoints": "encoders"}
    assert guard(path, now, rebuild=False, renamed=renamed).fingerprint == fingerprint(stored)
    with pytest.raises(MixstyleError) as caught:
        read_provenance(path)
    assert caught.value.code == "damaged-file"


def test_inputs_of_version_1_and_settings_that_came_later(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    write_version_1(path, "train", {"seed": 0, "made_from": {"stems": "aa", "features": "bb"}})
    inputs = {"stems": "aa", "features": "bb"}
    assert read_provenance(path).made_from == inputs
    now = Provenance("train", {"seed": 0, "reader": "random"}, made_from=inputs)
    assert guard(path, now, rebuild=False, absent={"reader": "random"}).made_from == inputs
    assert "train.reader: stream -> random" in refusal(path, now, absent={"reader": "stream"}).message
    older = Provenance("train", {"seed": 0}, made_from=inputs)
    assert guard(path, older, rebuild=False, absent={"reader": "random"}) == read_provenance(path)
