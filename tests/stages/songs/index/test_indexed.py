"""A song that the index holds is searched with as it stands there: what the networks say, without them."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.small_encoder import SONG_S, embedding_profile, write_encoder
from helpers.small_separator import RATE, song, write_songs

from mixstyle.cache.models.model_facts import ModelFiles
from mixstyle.cache.song_index.index import SongIndex
from mixstyle.cache.storage.provenance import SETTINGS, guard
from mixstyle.pipeline.descriptors.table import SONG_VALUES_VERSION
from mixstyle.stages.separate.rule_versions import SongRules, rules_of_index
from mixstyle.stages.settings.profile import Settings, plain
from mixstyle.stages.songs.embed import provenance
from mixstyle.stages.songs.embed.provenance import index_provenance
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.songs.index.indexed import known_song
from mixstyle.stages.songs.index.stage import index
from mixstyle.stages.songs.search.stage import search
from mixstyle.stages.songs.search.text import matches_as_json

SONGS = 3
ALONE = """
import json, sys
from pathlib import Path
from mixstyle.stages.settings.profile import from_plain
from mixstyle.stages.songs.search.stage import search
from mixstyle.stages.status import status
given = json.loads(sys.argv[1])
settings = from_plain(given["settings"])
search(settings, Path(given["song"]), 2, json_path=Path(given["json"]))
print(status(settings)["index"].state)
print(*(name for name in ("torch", "soundfile", "scipy", "pandas") if name in sys.modules))
"""


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("songs that are known")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "xdg"))  # which a process of its own sees too
        settings = embedding_profile(folder, write_songs(folder / "music", SONGS, seconds=SONG_S))
        index(settings, folder / "music")
    return settings


@pytest.fixture(autouse=True)
def _cache(indexed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(indexed.embed.index_dir.parent / "xdg"))


def test_a_row_is_what_the_networks_say(indexed: Settings) -> None:
    path = indexed.separate.data_path / "song 1.flac"
    found = known_song(indexed, path)
    assert found is not None
    query, songs, root = found
    assert (len(songs), root) == (SONGS, path.parent.resolve())
    with embedder_of(indexed, measure=True) as embedder:
        again = embedder.song(path)
    assert (query.name, query.loudness) == (again.name, again.loudness)
    # One song at a time shares no batch with others: float32 sums of the separator in another order. 1e-5 of full scale
    # is 1e-4 of stems at -20 dBFS, 1e-3 dB. A log-mel moves by as much, 5e-5 of its scale of 20 dB, in bins that are as
    # quiet as that, and embeddings of unit length by less.
    np.testing.assert_allclose(query.embedding, again.embedding.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(query.values, again.values, rtol=0, atol=1e-3)


def test_search_and_status_load_no_torch(indexed: Settings, tmp_path: Path) -> None:
    song = indexed.separate.data_path / "song 1.flac"
    given = {"settings": plain(indexed), "song": str(song), "json": str(tmp_path / "found.json")}
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(given)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
        cwd=tmp_path,
    )
    assert ran.stdout.splitlines()[-2:] == ["done", ""]
    query, songs, _ = known_song(indexed, song) or pytest.fail("not known")
    expected = matches_as_json(query, search(indexed, song, 2), len(songs))
    assert json.loads((tmp_path / "found.json").read_text()) == expected


def test_a_copy_elsewhere_is_known_by_its_content(indexed: Settings, tmp_path: Path) -> None:
    copy, longer = tmp_path / "another name.flac", tmp_path / "longer.flac"
    shutil.copy(indexed.separate.data_path / "song 2.flac", copy)
    found = known_song(indexed, copy)
    assert found is not None
    np.testing.assert_array_equal(found[0].embedding, found[1]["song 2.flac"].embedding)
    longer.write_bytes(copy.read_bytes() + b"\0")
    assert known_song(indexed, longer) is None


def test_what_is_not_in_the_index_as_it_is_now_goes_by_the_networks(indexed: Settings, tmp_path: Path) -> None:
    assert known_song(indexed, indexed.separate.data_path / "none.flac") is None
    unlike = tmp_path / "other.flac"
    soundfile.write(unlike, song(77), RATE)
    assert known_song(indexed, unlike) is None
    path = indexed.separate.data_path / "song 0.flac"
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    try:
        assert known_song(indexed, path) is None
    finally:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert known_song(indexed, path) is not None


def test_models_that_the_index_is_not_of_or_that_nobody_has_loaded_are_not_guessed_at(
    indexed: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = indexed.separate.data_path / "song 0.flac"
    shutil.copy(indexed.separate.separator_checkpoint, tmp_path / indexed.separate.separator_checkpoint.name)
    moved = dataclasses.replace(
        indexed.separate, separator_checkpoint=tmp_path / indexed.separate.separator_checkpoint.name
    )
    assert known_song(dataclasses.replace(indexed, separate=moved), path) is not None, "its content counts"
    encoder = write_encoder(tmp_path / "other.safetensors", seed=1)
    other = dataclasses.replace(indexed, embed=dataclasses.replace(indexed.embed, encoder=encoder))
    assert known_song(other, path) is None
    cut = dataclasses.replace(indexed, separate=dataclasses.replace(indexed.separate, clips_per_track=2))
    assert known_song(cut, path) is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    assert known_song(indexed, path) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version": 2}', None])
def test_facts_that_are_damaged_count_as_not_there(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    weights = tmp_path / "weights"
    weights.write_bytes(b"1")
    files = ModelFiles.of("encoder", [weights])
    assert files is not None
    assert files.facts() is None
    files.keep({"encoder": "ab"})
    assert files.facts() == {"encoder": "ab"}
    (kept,) = (tmp_path / "xdg" / "mixstyle" / "models").iterdir()
    kept.write_bytes(kept.read_bytes().replace(b'"ab"', b'"cd"') if content is None else content)
    assert files.facts() is None
    weights.write_bytes(b"2")
    changed = ModelFiles.of("encoder", [weights])
    assert changed is not None
    assert changed.facts() is None
    assert ModelFiles.of("encoder", [tmp_path / "none"]) is None


@pytest.mark.parametrize("name", ["DESCRIPTORS_VERSION", "INFERENCE_VERSION", "SPECTROGRAMS_VERSION"])
def test_facts_are_of_the_versions_that_may_refuse_a_model(
    name: str, indexed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder of other spectrograms is refused when it is loaded, and so it has to be loaded."""
    path = indexed.separate.data_path / "song 0.flac"
    assert known_song(indexed, path) is not None
    monkeypatch.setattr(provenance, name, getattr(provenance, name) + 1)
    assert known_song(indexed, path) is None


def test_an_index_of_before_goes_on_by_its_own_rule(indexed: Settings, tmp_path: Path) -> None:
    """Its rows have medians of loudnesses too. So has what is added, and what is searched with, until --rebuild."""
    music, place = tmp_path / "music", tmp_path / "index"
    shutil.copytree(indexed.separate.data_path, music)
    settings = dataclasses.replace(indexed, embed=dataclasses.replace(indexed.embed, index_dir=place))
    with embedder_of(settings, rules=SongRules(values=1)) as embedder:
        guard(place / SETTINGS, index_provenance(embedder.fingerprint, music.resolve()), rebuild=False)
        medians = {path.name: np.median(embedder.song(path).descriptors, 0) for path in sorted(music.iterdir())}
    assert rules_of_index(place).values == 1

    def wrong(songs: SongIndex) -> list[str]:
        # dB, LU: 1e-3 as for a song that shares no batch
        return [row.path for row in songs.usable if not np.allclose(row.descriptors, medians[row.path], atol=1e-3)]

    last = music / f"song {SONGS - 1}.flac"
    kept = last.rename(tmp_path / last.name)
    assert wrong(index(settings, music)) == []
    kept.rename(last)
    assert wrong(index(settings, music)) == []
    query, *_ = known_song(settings, last) or pytest.fail("not known")
    np.testing.assert_allclose(query.values, medians[last.name], rtol=0, atol=1e-3)  # dB, LU: as above
    assert len(search(settings, last, 1)) == 1
    assert len(wrong(index(settings, music, rebuild=True))) == SONGS
    assert rules_of_index(place).values == SONG_VALUES_VERSION
