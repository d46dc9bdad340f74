"""Sidecars, settings, lists and profiles that are not what they should be: one line each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.mixed_cache import make_stems

from mixstyle.cache.music.listing import list_tracks
from mixstyle.cache.stem_store.shards import read_shard
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.separator_checkpoint import read_separator_config
from mixstyle.stages.settings.profile import load_settings

DEEP = 100_000
"""Brackets in brackets: more than Python's own recursion takes."""


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(MixstyleError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "stems"
    make_stems(folder, tracks=2, clips=2)
    return folder


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """JSON as versions without checksums wrote it, with a change."""
    content = json.loads(path.read_text())
    content.pop("content_sha256")
    change(content)
    return json.dumps(content)


SIDECARS: dict[str, Callable[[dict[str, Any]], object]] = {
    "nothing but the version": lambda content: [content.pop(name) for name in list(content) if name != "version"],
    "no members": lambda content: content.pop("members"),
    "members without sizes": lambda content: content.update(members=[["a", 1]]),
    "a clip without its member": lambda content: content["members"].pop(0),
    "tracks that are none": lambda content: content.update(tracks=[3]),
    "a clip without a scale": lambda content: content["tracks"][0]["clips"][0].pop("scale"),
    "a scale below 0": lambda content: content["tracks"][0]["clips"][0].update(scale=-1.0),
    "a length of another kind": lambda content: content.update(bytes="many"),
    "too few checksums": lambda content: content.update(crc32=[1]),
}


@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_that_lacks_something_is_told(name: str, stems: Path) -> None:
    path = stems / "stems-000000.json"
    before = path.read_bytes()
    path.write_text(changed(path, SIDECARS[name]))
    try:
        assert refused(lambda: read_shard(stems, 0)) == "damaged-file"
        assert refused(lambda: StemCache(stems)) == "damaged-file"
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("text", ["[" * DEEP, '{"version": ' * DEEP, "", "\xff", "[]", "3"], ids=range(6))
def test_json_that_is_none_or_nested_without_end_is_told(text: str, stems: Path) -> None:
    for path in (stems / "stems-000000.json", stems / "settings.json"):
        before = path.read_bytes()
        path.write_bytes(text.encode("latin-1"))
        try:
            assert refused(lambda: StemCache(stems)) in ("damaged-file", "unknown-version")
        finally:
            path.write_bytes(before)


@pytest.mark.parametrize("value", [float("nan"), "ten", None, -1.0, float("inf")], ids=str)
def test_settings_without_the_sizes_of_clips_are_told(value: object, stems: Path) -> None:
    path = stems / "settings.json"
    before = path.read_bytes()
    path.write_text(changed(path, lambda content: content["settings"].update(clip_s=value)))
    try:
        assert refused(lambda: StemCache(stems)) == "damaged-file"
    finally:
        path.write_bytes(before)


def test_a_listed_name_that_is_too_long_for_a_file_is_one_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "good.wav").write_bytes(b"RIFF")
    (tmp_path / "list.txt").write_text(f"{'a' * 5000}.wav\n{'b/' * 3000}c.wav\ngood.wav\n")
    sizes = list_tracks(tmp_path / "list.txt", "mixtures").sizes
    assert sorted(sizes.values()) == [-1, -1, 4]


def test_yaml_that_is_nested_without_end_or_not_finite_is_told(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("[" * 1000)
    assert refused(lambda: load_settings(path)) == "bad-setting"
    assert refused(lambda: read_separator_config(path)) == "damaged-file"
    for text in ("separate: {clip_s: .nan}", "separate: {clip_s: .inf}"):
        path.write_text(text)
        assert refused(lambda: load_settings(path)) == "bad-setting"
    assert refused(lambda: load_settings("demo", ["separate.clip_s=.nan"])) == "bad-setting"
