"""Comparing two mixes: nothing between a song and itself, and what was changed where it was."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.small_encoder import SONG_S, embedding_profile
from helpers.small_separator import RATE, song, write_songs

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.table import COLUMN, DESCRIPTORS
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.compare.stage import compare


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("compare")
    return embedding_profile(folder, write_songs(folder / "music", 2, seconds=SONG_S))


def write_stems(folder: Path, gains_db: dict[str, float]) -> Path:
    folder.mkdir(parents=True)
    for i, stem in enumerate(STEMS):
        audio = song(i, 0.8) * 10 ** (gains_db.get(stem, 0.0) / 20)
        soundfile.write(folder / f"{stem}.wav", audio, RATE, subtype="FLOAT")
    return folder


def test_a_song_is_no_distance_from_itself(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    path = settings.separate.data_path / "song 0.flac"
    found = compare(settings, path, path)
    assert found.cosine == pytest.approx(1, abs=1e-6)  # 32 float32 products, 2^-24 each
    assert not found.apart.any()
    assert "1.000" in capsys.readouterr().out, "the cosine"


def test_a_gain_is_found_on_the_stem_that_it_was_given(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write_stems(tmp_path / "a", {}), write_stems(tmp_path / "b", {"bass": -12.0})
    found = compare(settings, first, second, tmp_path / "c.png")
    column = COLUMN["bass_loudness_lufs"]
    assert found.values[1, column] - found.values[0, column] == pytest.approx(
        -12, abs=1e-3
    )  # LU; a gain on float32 samples, 2^-24 of each
    assert found.distance("bass", "dynamics") == max(found.distance(stem, "dynamics") for stem in STEMS)
    assert found.apart[COLUMN["drums_crest_db"]] == 0, "the same samples by the same code"
    assert found.distance("vocals", "stereo") == 0
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert {d.title for d in DESCRIPTORS if d.title not in printed} == set()
    with pytest.raises(MixstyleError) as caught:
        compare(settings, first, second, tmp_path / "c.pdf")
    assert (caught.value.code, "c.pdf" in str(caught.value)) == ("bad-option", True)


def test_a_stem_that_is_missing_counts_by_its_loudness_alone(settings: Settings, tmp_path: Path) -> None:
    first, second = write_stems(tmp_path / "a", {}), write_stems(tmp_path / "b", {"vocals": -90.0})
    found = compare(settings, first, second)
    assert found.has(0, "vocals")
    assert not found.has(1, "vocals")
    assert np.isnan(found.distance("vocals", "stereo"))
    assert found.distance("vocals", "dynamics") > 1


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.62, 0.63, 0.8, 1.0])
def test_figures_can_be_read_on_their_colours(share: float) -> None:
    """WCAG 2.2: text of that size needs a contrast of 3."""
    import matplotlib

    from mixstyle.stages.songs.compare.png_page import COLOURS, _ink

    rgb = np.array(matplotlib.colormaps[COLOURS](share)[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    ink = 1.0 if _ink(share) == "white" else 0.0
    assert (max(luminance, ink) + 0.05) / (min(luminance, ink) + 0.05) >= 3
