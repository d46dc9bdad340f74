"""Songs that the stem cache holds: not separated again, nearly the same embedding, and never that of other content."""

import os
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
import torch
from helpers.s3_server import BUCKET, serving
from helpers.small_encoder import SONG_S, embedding_profile
from helpers.small_separator import RATE, song, write_songs
from torch import Tensor

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import Settings, from_plain, plain
from mixstyle.stages.songs.embed.stage import embed, embedder_of
from mixstyle.stages.songs.index.stage import index

FORMATS = {"flac": "PCM_16", "wav": "FLOAT", "ogg": "VORBIS"}
"""Each is hashed in a way of its own: the header's MD5, the samples, the whole file."""


@pytest.fixture
def network_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that go through a separator's network."""
    sizes: list[int] = []
    whole = Separator.run_network

    def counted(self: Separator, batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return whole(self, batch)

    monkeypatch.setattr(Separator, "run_network", counted)
    return sizes


def songs_of(settings: Settings) -> list[Path]:
    return sorted(path for path in settings.separate.data_path.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def separately(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Tensor]:
    """Settings with cached stems, and the embeddings from before there were any."""
    folder = tmp_path_factory.mktemp("cached")
    music = folder / "music"
    write_songs(music, 1, seconds=SONG_S)
    for place, (suffix, subtype) in enumerate(FORMATS.items()):
        (music / "below").mkdir(exist_ok=True)
        soundfile.write(music / "below" / f"a {suffix}.{suffix}", song(50 + place, SONG_S), RATE, subtype=subtype)
    settings = embedding_profile(folder, music)
    with embedder_of(settings) as embedder:
        before = embedder.embed(songs_of(settings))
    separate(settings)
    return settings, before


def test_cached_songs_are_embedded_and_indexed_without_the_separator(
    separately: tuple[Settings, Tensor], network_runs: list[int], tmp_path: Path
) -> None:
    settings, before = separately
    embed(settings, songs_of(settings), tmp_path / "found.npy")
    found = torch.from_numpy(np.load(tmp_path / "found.npy"))
    songs = index(settings, settings.separate.data_path)
    assert network_runs == []
    assert len(songs.usable) == len(before) == 1 + len(FORMATS)
    # Stems are stored with 16 bits, so they are off by up to half a step. Measured over 12 songs: 1.0e-4 to 2.0e-4. It
    # comes in by the mel: as much (1.9e-4, median of 36 clips) where the descriptors are those of unrounded stems.
    cache = StemCache(settings.separate.stems_dir)
    assert {clip.scale for track in cache.tracks for clip in track.clips} == {1.0}
    assert 0 < (found - before).abs().max() < 1e-3


@pytest.mark.parametrize("suffix", FORMATS)
def test_other_content_at_the_same_path_is_separated(
    separately: tuple[Settings, Tensor], network_runs: list[int], tmp_path: Path, suffix: str
) -> None:
    settings, _ = separately
    path = settings.separate.data_path / "below" / f"a {suffix}.{suffix}"
    whole, stat = path.read_bytes(), path.stat()
    with embedder_of(settings) as embedder:
        old = embedder.embed(path)
        assert network_runs == []
        try:
            soundfile.write(path, song(99, SONG_S), RATE, subtype=FORMATS[suffix])
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # nothing but the content tells
            new = embedder.embed(path)
            other = tmp_path / path.name  # where no stems are known
            other.write_bytes(path.read_bytes())
            assert len(network_runs) > 0
            torch.testing.assert_close(new, embedder.embed(other), rtol=0, atol=2e-5)
        finally:
            path.write_bytes(whole)
        assert (new - old).abs().max() > 1e-2
        network_runs.clear()
        assert torch.equal(embedder.embed(path), old)
        assert network_runs == []


@pytest.mark.slow
def test_stems_behind_a_url_are_taken_and_one_that_cannot_be_reached_is_done_without(
    separately: tuple[Settings, Tensor],
    network_runs: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings, _ = separately
    one = songs_of(settings)[0]
    with embedder_of(settings) as embedder:
        expected = embedder.embed(one)
    given = plain(settings)
    given["train"]["stems_cache_dir"] = str(tmp_path / "copies")
    with serving(tmp_path / "s3"):
        url = f"s3://{BUCKET}/cached"
        for path in settings.separate.stems_dir.iterdir():
            if path.suffix in (".json", ".tar"):
                with fsspec.open(f"{url}/{path.name}", "wb") as file:
                    file.write(path.read_bytes())  # pyright: ignore[reportAttributeAccessIssue]
        given["separate"]["stems_dir"] = url
        with embedder_of(from_plain(given)) as embedder:
            assert torch.equal(embedder.embed(one), expected)
        assert network_runs == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the port of discard: nobody answers
    given["train"]["stems_cache_dir"] = str(tmp_path / "others")
    with embedder_of(from_plain(given)) as embedder:
        assert (embedder.embed(one) - expected).abs().max() < 1e-3  # of 16 bits, as above
    assert network_runs
    told = capsys.readouterr()
    assert f"{url}: " in told.out + told.err
