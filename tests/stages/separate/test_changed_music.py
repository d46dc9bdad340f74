"""Music that changes under what was made of it: an MP3 that another one is joined to, samples that become others."""

import os
from pathlib import Path

import pytest
from helpers.numbers import numbers
from helpers.odd_audio import RATE, write_mp3
from helpers.small_encoder import embedding_profile
from helpers.small_separator import song

from mixstyle.cache.music.reader import probe
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.separate.status import separate_status
from mixstyle.stages.songs.index.stage import index

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_joined_mp3_is_cut_from_all_of_it_and_made_anew_once_told(tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    one = write_mp3(tmp_path / "one.mp3", song(0, seconds=3.0))
    other = write_mp3(tmp_path / "other.mp3", song(1, seconds=3.0))
    for name in ("a.mp3", "b.mp3"):
        (music / name).write_bytes(one.read_bytes())
    settings = embedding_profile(tmp_path, music)
    separate(settings)
    stems = settings.separate.stems_dir
    before = {track.path: [clip.start_frame for clip in track.clips] for track in StemCache(stems).tracks}
    assert before["a.mp3"] == before["b.mp3"]
    assert index(settings, music)["a.mp3"].duration_s < 3.2
    # the file grows: neither the stems nor the index take what was made of the first part for the whole
    (music / "a.mp3").write_bytes(one.read_bytes() + other.read_bytes())
    frames = probe(music / "a.mp3").frames
    assert frames > 6 * RATE
    with pytest.raises(MixstyleError) as caught:
        separate(settings)
    assert (caught.value.code, caught.value.remedy) == ("stale", ("separate", "--rebuild"))
    assert numbers(caught.value.message)[-1] == 1, "file"
    assert separate_status(settings)[1].state == "stale"
    separate(settings, rebuild=True)
    after = {track.path: [clip.start_frame for clip in track.clips] for track in StemCache(stems).tracks}
    assert after["b.mp3"] == before["b.mp3"]
    assert 0.7 * frames < after["a.mp3"][-1] < 0.9 * frames - RATE / 2, "the last of three thirds of the middle 80%"
    songs = index(settings, music)
    assert songs["a.mp3"].duration_s == pytest.approx(frames / RATE, abs=0.5 / RATE)  # half a sample
    assert songs["b.mp3"].duration_s < 3.2


def test_other_samples_in_a_file_of_the_same_size_and_time_are_noticed_by_its_ends(tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    for name, seed in (("a.mp3", 0), ("b.mp3", 1)):
        write_mp3(music / name, song(seed))
    settings = embedding_profile(tmp_path, music)
    separate(settings)
    stat = (music / "a.mp3").stat()
    write_mp3(music / "a.mp3", song(2))
    data = (music / "a.mp3").read_bytes()
    (music / "a.mp3").write_bytes(data[: stat.st_size].ljust(stat.st_size, b"\0"))
    os.utime(music / "a.mp3", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (music / "a.mp3").stat().st_mtime_ns == stat.st_mtime_ns
    with pytest.raises(MixstyleError) as caught:
        separate(settings)
    assert caught.value.code == "stale"
    assert numbers(caught.value.message)[-1] == 1, "file"
