"""The index takes what is new, forgets what is gone, survives being stopped, and finds what is nearest."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.small_encoder import SONG_S, embedding_profile, write_encoder
from helpers.small_separator import RATE, song, write_songs

from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.cache.music.transient_failures import CRASHED
from mixstyle.cache.song_index.index import IndexedSong, SongIndex
from mixstyle.cache.song_index.nearest import NEAREST
from mixstyle.cache.storage.provenance import SETTINGS
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.descriptors.table import COLUMN
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.embedder import Embedder
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.songs.index.stage import index, open_index
from mixstyle.stages.songs.search.matches import reasons
from mixstyle.stages.songs.search.stage import search

SONGS = 5


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return embedding_profile(tmp_path, write_songs(tmp_path / "music", SONGS, seconds=SONG_S))


def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the songs that are embedded from now on, as they come."""
    names: list[str] = []

    made = Embedder.songs

    def counting(embedder, songs, workers):
        names.extend(path.name for path in songs)
        return made(embedder, songs, workers)

    monkeypatch.setattr(Embedder, "songs", counting)
    return names


def test_only_what_is_new_or_changed_is_embedded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    music = settings.separate.data_path
    (music / "broken.wav").write_bytes(b"RIFF no music")
    (music / "gone.flac").symlink_to(music / "nowhere.flac")
    names = embedded(monkeypatch)
    first = index(settings, music)
    assert len(names) == SONGS + 2
    assert len(first.usable) == SONGS
    assert [song.path for song in first.failed] == ["broken.wav", "gone.flac"]
    assert first["gone.flac"].reason == "no such file"
    names.clear()
    again = index(settings, music)
    assert names == []
    np.testing.assert_array_equal(again.embeddings(), first.embeddings())
    (music / "deep").mkdir()
    soundfile.write(music / "deep" / "new.flac", song(77), RATE)
    soundfile.write(music / "song 1.flac", song(78), RATE)
    (music / "song 0.flac").unlink()
    third = index(settings, music)
    assert sorted(names) == ["new.flac", "song 1.flac"]
    assert [song.path for song in third.usable] == ["deep/new.flac", *(f"song {i}.flac" for i in range(1, SONGS))]
    np.testing.assert_array_equal(third["song 2.flac"].embedding, first["song 2.flac"].embedding)
    assert not np.allclose(third["song 1.flac"].embedding, first["song 1.flac"].embedding)
    assert len(list(settings.embed.index_dir.glob("songs-*.parquet"))) == 1, "parts should be merged"


def test_a_song_whose_decoder_was_killed_is_tried_again_in_every_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = embedded(monkeypatch)
    made, kills = Embedder.songs, ["song 1.flac"]

    def killing(embedder, songs, workers):
        for path, found in zip(songs, made(embedder, songs, workers), strict=True):
            yield UnreadableMusic(f"{CRASHED}: SIGKILL") if path.name in kills else found

    monkeypatch.setattr(Embedder, "songs", killing)
    for _ in range(2):
        songs = index(settings, settings.separate.data_path)
        assert [song.path for song in songs.failed] == kills
    kills.clear()
    names.clear()
    assert len(index(settings, settings.separate.data_path).usable) == SONGS
    assert names == ["song 1.flac"]
    names.clear()
    index(settings, settings.separate.data_path)
    assert names == []


def test_a_run_that_is_stopped_keeps_what_it_had(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Embedder.songs

    def stopped(embedder, songs, workers):
        for place, found in enumerate(made(embedder, songs, workers)):
            if place == 3:
                raise KeyboardInterrupt
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "songs", stopped)
        with pytest.raises(KeyboardInterrupt):
            index(settings, settings.separate.data_path)
    assert len(SongIndex(settings.embed.index_dir)) == 3
    names = embedded(monkeypatch)
    assert len(index(settings, settings.separate.data_path)) == SONGS
    assert names == ["song 3.flac", "song 4.flac"]


def test_the_nearest_are_those_of_the_largest_cosine(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    music = settings.separate.data_path
    songs = index(settings, music)
    query = music / "song 3.flac"
    found = search(settings, query, 3)
    with embedder_of(settings) as embedder:
        cosines = songs.embeddings() @ embedder.embed(query).numpy()
    order = [i for i in np.argsort(-cosines) if songs.usable[i].path != "song 3.flac"][:3]
    assert [match.song.path for match in found] == [songs.usable[i].path for i in order]
    assert [match.score for match in found] == pytest.approx(
        [cosines[i] for i in order], abs=1e-6
    )  # 32 products, 2^-24 each
    printed = capsys.readouterr().out
    assert all(match.song.path in printed for match in found)
    # a copy under another name is found first, and is the same
    shutil.copy(query, settings.embed.index_dir.parent / "copy.flac")
    copied = search(settings, settings.embed.index_dir.parent / "copy.flac", 99)
    assert len(copied) == SONGS
    best = next(match for match in copied if match.song.path == "song 3.flac")
    # clips are where they were under another name: float32 in other batches moves 32 numbers by 1e-5 at most, and the
    # cosine of unit vectors by half the square of that; what is left is the rounding of its 32 products, 2^-24 each
    assert best.score == pytest.approx(1, abs=1e-6)


def test_what_is_made_otherwise_is_refused(settings: Settings, tmp_path: Path) -> None:
    music = settings.separate.data_path
    index(settings, music)
    other = dataclasses.replace(
        settings, embed=dataclasses.replace(settings.embed, encoder=write_encoder(tmp_path / "o.safetensors", 1))
    )
    elsewhere = write_songs(tmp_path / "elsewhere", 1, seed=9)
    empty = dataclasses.replace(settings, embed=dataclasses.replace(settings.embed, index_dir=tmp_path / "none"))
    for refused, code, named in (
        (lambda: index(other, music), "stale", "encoder"),
        (lambda: search(other, music / "song 0.flac"), "stale", "encoder"),
        (lambda: index(settings, elsewhere), "stale", "music"),
        (lambda: index(settings, tmp_path / "nowhere"), "not-found", "nowhere"),
        (lambda: open_index(empty), "step-missing", "none"),
        (lambda: search(settings, music / "song 0.flac", 0), "bad-option", "-k 0"),
    ):
        with pytest.raises(MixstyleError) as caught:
            refused()
        assert (caught.value.code, named in str(caught.value)) == (code, True), str(caught.value)
    assert len(index(settings, elsewhere, rebuild=True).usable) == 1


def rows(count: int, dimensions: int = 8) -> list[IndexedSong]:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [IndexedSong(f"{i:03}", i, i, 1.0, vector, vector[:3]) for i, vector in enumerate(vectors)]


def test_a_torn_search_structure_is_made_anew(tmp_path: Path) -> None:
    songs = SongIndex(tmp_path)
    songs.add(rows(30))
    expected = [song.path for song, _ in songs.search(rows(30)[7].embedding, 5)]
    assert expected[0] == "007"
    (tmp_path / NEAREST).write_bytes((tmp_path / NEAREST).read_bytes()[:50])
    assert [song.path for song, _ in SongIndex(tmp_path).search(rows(30)[7].embedding, 5)] == expected
    # one of other songs is not taken for these
    more = SongIndex(tmp_path)
    more.add([IndexedSong("new", 1, 1, 1.0, rows(30)[7].embedding, np.zeros(3, np.float32))])
    assert {song.path for song, _ in SongIndex(tmp_path).search(rows(30)[7].embedding, 2)} == {"007", "new"}
    with pytest.raises(MixstyleError) as caught:
        more.search(np.zeros(5, np.float32), 1)
    assert caught.value.code == "misfit"


def test_a_later_row_counts_and_names_may_be_any_bytes(tmp_path: Path) -> None:
    songs = SongIndex(tmp_path)
    first, second, *_ = rows(2)
    odd = b"caf\xe9 \xff.mp3".decode("utf-8", "surrogateescape")
    songs.add([dataclasses.replace(first, path=odd)])
    songs.add([dataclasses.replace(second, path=odd)])
    again = SongIndex(tmp_path)
    assert len(again) == 1
    np.testing.assert_array_equal(again[odd].embedding, second.embedding)
    part = next(tmp_path.glob("songs-*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(MixstyleError) as caught:
        SongIndex(tmp_path)
    assert caught.value.code == "damaged-file"
    assert part.name in str(caught.value)


def test_reasons_are_what_sets_two_songs_apart_from_the_others() -> None:
    rng = np.random.default_rng(1)
    everyone = rng.standard_normal((200, len(DESCRIPTORS))).astype(np.float32)
    query, found = everyone[0].copy(), everyone[1].copy()
    alike, apart = COLUMN["drums_crest_db"], COLUMN["vocals_tilt_db_per_octave"]
    query[alike] = found[alike] = 9.0  # both far from all others, and equal
    query[apart], found[apart] = -9.0, 9.0
    near, far = reasons(query, found, everyone)
    assert near[0].column == alike
    assert near[0].share < 0.01
    assert far[0].column == apart
    assert far[0].share > 0.99
    assert str(near[0]) == "drums: crest factor 9.0 / 9.0 dB"
    # of a stem that one has not, its loudness alone may count
    found[COLUMN["vocals_relative_loudness_lu"]] = -60
    _, far = reasons(query, found, everyone)
    assert far[0].column == COLUMN["vocals_relative_loudness_lu"]


def test_reasons_are_heard_and_none_is_told_twice() -> None:
    rng = np.random.default_rng(2)
    everyone = rng.standard_normal((200, len(DESCRIPTORS))).astype(np.float32)
    query = everyone[0].copy()
    unheard = [COLUMN[f"bass_{kind}"] for kind in ("rms_left_dbfs", "rms_right_dbfs", "loudness_lufs")]
    unheard.append(COLUMN["bass_octave_1000hz_db"])  # 60 dB below the stem, in both
    width = [COLUMN[f"bass_{kind}"] for kind in ("mid_side_db", "correlation", "mid_side_low_db", "mid_side_mid_db")]
    query[unheard[-1]] = -60
    for place, far in ((0, 9), (1, 0)):  # nearest in these of all descriptors, or farthest
        query[width] = far
        found = query + np.float32(0.5)
        found[[*unheard, *width]] = query[[*unheard, *width]] - np.float32(9 * place)
        told = [one.column for one in reasons(query, found, everyone)[place]]
        assert len(told) == 3
        assert not set(told) & set(unheard)
        assert len(set(told) & set(width)) == 1


@pytest.mark.parametrize("path", ["../secret.wav", "a/../../secret.wav", "/etc/secret.wav", ".."])
def test_an_index_that_names_files_outside_of_its_music_is_refused(tmp_path: Path, path: str) -> None:
    """`browse` would play them to whoever asks."""
    row = IndexedSong(path, 1, 1, 1.0, np.full(4, 0.5, np.float32), np.zeros(3, np.float32))
    SongIndex(tmp_path).add([row])
    with pytest.raises(MixstyleError) as caught:
        SongIndex(tmp_path)
    assert (caught.value.code, path in str(caught.value)) == ("damaged-file", True)


DAMAGES = {
    "lost": None,
    "empty": lambda stored: b"",
    "half": lambda stored: stored[: len(stored) // 2],
    "other JSON": lambda stored: b"[1, 2]",
    "no settings": lambda stored: b"{}",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_settings_that_are_lost_or_damaged_are_written_again_from_what_the_songs_tell(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    music, stored = settings.separate.data_path, settings.embed.index_dir / SETTINGS
    before = index(settings, music).usable
    whole, parts = stored.read_bytes(), sorted(settings.embed.index_dir.glob("songs-*.parquet"))

    def harm() -> None:
        stored.unlink() if DAMAGES[damage] is None else stored.write_bytes(DAMAGES[damage](whole))

    harm()
    if damage != "lost":
        with pytest.raises(MixstyleError) as caught:
            search(settings, music / "song 3.flac", 3)
        assert "--rebuild" not in caught.value.remedy
    other = dataclasses.replace(settings, separate=dataclasses.replace(settings.separate, seed=7))
    with pytest.raises(MixstyleError) as caught:
        index(other, music)
    assert (caught.value.code, caught.value.remedy[-1]) == ("stale", "--rebuild")
    names = embedded(monkeypatch)
    again = index(settings, music).usable
    assert names == []
    assert stored.read_bytes() == whole
    assert repr(again) == repr(before)
    assert sorted(settings.embed.index_dir.glob("songs-*.parquet")) == parts


def test_lost_settings_of_songs_that_do_not_tell_what_they_are_of_are_not_guessed(settings: Settings) -> None:
    songs = index(settings, settings.separate.data_path)
    for part in settings.embed.index_dir.glob("songs-*.parquet"):
        part.unlink()
    SongIndex(settings.embed.index_dir).add(songs.usable)  # as earlier versions wrote them
    (settings.embed.index_dir / SETTINGS).unlink()
    with pytest.raises(MixstyleError) as caught:
        index(settings, settings.separate.data_path)
    assert (caught.value.code, caught.value.remedy[-1]) == ("stale", "--rebuild")
    assert len(SongIndex(settings.embed.index_dir)) == SONGS


@pytest.mark.parametrize("wrong", ["encoder", "separator", "input", "music"])
def test_what_is_refused_leaves_no_folder(settings: Settings, tmp_path: Path, wrong: str) -> None:
    settings = dataclasses.replace(settings, embed=dataclasses.replace(settings.embed, index_dir=tmp_path / "new"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").write_bytes(b"no model")
    embed, chosen, music = settings.embed, settings.separate, settings.separate.data_path
    given, music = {
        "encoder": (dataclasses.replace(settings, embed=dataclasses.replace(embed, encoder=tmp_path / "bad")), music),
        "separator": (
            dataclasses.replace(settings, separate=dataclasses.replace(chosen, separator_checkpoint=tmp_path / "bad")),
            music,
        ),
        "input": (dataclasses.replace(settings, separate=dataclasses.replace(chosen, input="stems")), music),
        "music": (settings, tmp_path / "empty"),
    }[wrong]
    with pytest.raises(MixstyleError):
        index(given, music)
    assert not (tmp_path / "new").exists()
