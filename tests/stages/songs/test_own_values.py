"""A song's own descriptors are the same in every command: a stem's are those of the clips in which it plays."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.small_encoder import embedding_profile
from helpers.small_separator import RATE, song, write_songs

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import has_stem
from mixstyle.pipeline.descriptors.table import COLUMN
from mixstyle.stages.songs.compare.stage import compare
from mixstyle.stages.songs.describe.stage import describe_songs
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.songs.match.stage import MatchOutputs, match

SECONDS = 6.0


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds, of which vocals are in the first 2.2: a third of the clips. Their channels are opposite."""
    folder = tmp_path_factory.mktemp("stems") / "mine"
    folder.mkdir()
    for i, stem in enumerate(STEMS):
        audio = song(i, SECONDS)
        if stem == "vocals":
            audio[:, 1] = -audio[:, 0]
            audio[round(2.2 * RATE) :] = 0
        soundfile.write(folder / f"{stem}.wav", audio, RATE, subtype="FLOAT")
    return folder


def test_every_command_has_the_same_values(stems: Path, tmp_path: Path) -> None:
    settings = embedding_profile(tmp_path, write_songs(tmp_path / "music", 1, seconds=SECONDS))
    (described,) = describe_songs(settings, [], stems=stems)
    compared = compare(settings, stems, settings.separate.data_path / "song 0.flac")
    matched, _ = match(settings, stems, [stems], MatchOutputs(tmp_path / "matched.wav"))
    with embedder_of(settings) as embedder:
        embedded = embedder.song(stems)
    found = {
        "describe": described.values,
        "compare": compared.values[0],
        "search, index": embedded.values,
        "match, mine": matched.before,
        "match, reference": matched.reference,
    }
    clips = embedded.descriptors.numpy()
    assert (clips[:, COLUMN["vocals_loudness_lufs"]] > -70).tolist() == [True, False, False]
    for command, values in found.items():
        # dB, LU and shares: the same samples by the same code, but batches of clips are summed in another order
        np.testing.assert_allclose(values, embedded.values, atol=1e-3, rtol=0, err_msg=command)
        assert has_stem(values, "vocals"), command
        # of the clip in which it plays; the median of the three is that of silence
        assert values[COLUMN["vocals_correlation"]] == pytest.approx(-1, abs=1e-5), command
