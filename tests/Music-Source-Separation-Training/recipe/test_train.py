"""The recipe of the small separator: two steps at tiny size, going on, and which weights are kept."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import train as recipe
from helpers.small_separator import CHUNK, RATE, song, write_separator
from safetensors.torch import load_file
from torch import nn
from training_items import VALIDATION_SHARE, Corpus, draw_item, find_songs, find_taught

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.separation.separator import load_separator

SECONDS = 0.5
CHUNK_FRAMES = 4096


def write_stems(folder: Path, seed: int, stems: tuple[str, ...], vocals_gain: float = 0.3) -> None:
    folder.mkdir(parents=True)
    for i, stem in enumerate(stems):
        audio = (vocals_gain if stem == "vocals" else 0.3) * song(10 * seed + i, SECONDS)
        soundfile.write(folder / f"{stem}.flac", audio, RATE, subtype="PCM_16")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two songs to train on, one to validate on, taught excerpts of two tracks for either, and a separator."""
    root = tmp_path_factory.mktemp("recipe")
    for seed, name in enumerate(("songs/a", "songs/b", "validation/c")):
        write_stems(root / name, seed, STEMS)
    kept = [i for i in range(100) if zlib.crc32(f"track {i}".encode()) % VALIDATION_SHARE == 0]
    trained = [i for i in range(100) if i not in kept]
    for i, gain in ((kept[0], 0.01), (trained[0], 0.3)):  # the former counts as unsung
        write_stems(root / "taught" / f"track {i}@1.50", i, ("vocals", "accompaniment"), gain)
    config, _ = write_separator(root / "separator")
    config.write_text(config.read_text().replace(f"chunk_size: {CHUNK}", f"chunk_size: {CHUNK_FRAMES}"))
    return root


def run(data: Path, work: Path, **options: Any) -> dict[str, bytes]:
    """Trains in `work`; the bytes of what it left there."""
    given = {"steps": 2, "batch_size": 4, "bf16": False, "save_every": 1, "taught": data / "taught"}
    config = data / "separator" / "separator.yaml"
    recipe.train(data / "songs", data / "validation", work, config, **{**given, **options})
    return {path.name: path.read_bytes() for path in sorted(work.iterdir())}


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_equal_bytes(data: Path, tmp_path: Path) -> None:
    shares = (0.4, 0.3)  # of the 8 items about 3 rendered, 2 taught, 3 of both
    whole = run(data, tmp_path / "whole", shares=shares)
    assert set(whole) == {"average.safetensors", "best.safetensors", "latest.pt", "log.csv"}
    stopped = run(data, tmp_path / "parts", shares=shares, minutes=1e-9)
    assert stopped["average.safetensors"] != whole["average.safetensors"]
    parts = run(data, tmp_path / "parts", shares=shares)
    # torch.save writes one of a pickle's strings twice or once, depending on which object it is: the values count
    ours, theirs = (torch.load(tmp_path / name / "latest.pt", weights_only=True) for name in ("whole", "parts"))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0)
    assert {**parts, "latest.pt": b""} == {**whole, "latest.pt": b""}
    header, *rows = whole["log.csv"].decode().splitlines()
    assert header == "step,loss,vocals,bass,drums,other,unsung_vocals_db,score"
    assert [row.split(",")[0] for row in rows] == ["0", "1", "2"]


def test_the_three_kinds_of_items(data: Path) -> None:
    corpus = Corpus(find_songs(data / "songs", 1), find_taught(data / "taught", 1)[0], (0.4, 0.3))
    items = [draw_item(corpus, np.random.default_rng([0, i]), CHUNK_FRAMES) for i in range(60)]
    assert all(item.stems.shape == (4, 2, CHUNK_FRAMES) and np.isfinite(item.stems).all() for item in items)
    rendered = [item for item in items if item.known]
    # 60 draws at 0.4: 24 with a standard deviation of 3.8
    assert 12 <= len(rendered) <= 36
    assert all(not item.stems[1:3].any() and item.stems[3].any() for item in items if not item.known)
    assert any(item.stems[1:3].any() for item in rendered)
    alone = [draw_item(Corpus(corpus.rendered, []), np.random.default_rng(i), CHUNK_FRAMES).known for i in range(9)]
    assert all(alone)


@pytest.mark.slow
def test_it_starts_from_weights_and_keeps_them_where_nothing_is_learnt(data: Path, tmp_path: Path) -> None:
    start = data / "separator" / "separator.safetensors"
    run(data, tmp_path, start_from=start, learning_rate_peak=0.0, steps=1)
    given, kept = load_file(start), load_file(tmp_path / "best.safetensors")
    assert all(torch.equal(kept[name], given[name]) for name in given)


def test_weights_with_a_stem_below_the_start_are_refused() -> None:
    network = nn.Linear(1, 1)
    start = {"vocals": 7.0, "bass": 8.0, "drums": 10.0, "other": 5.0}
    run = recipe.Run(network, torch.optim.AdamW(network.parameters()), {}, best=7.5, start=start)  # pyright: ignore
    assert run.improves({**start, "vocals": 7.1, "score": 7.6})
    assert not run.improves({**start, "vocals": 7.1, "score": 7.4}), "not the best score"
    for stem in STEMS:
        better = {name: gain + 3 for name, gain in start.items()}
        assert not run.improves({**better, stem: start[stem] - 0.01, "score": 9.0}), stem


def test_a_checkpoint_of_the_first_version_is_refused(data: Path, tmp_path: Path) -> None:
    torch.save({"version": 1}, tmp_path / "latest.pt")
    with pytest.raises(MixstyleError) as caught:
        run(data, tmp_path)
    assert caught.value.code == "unknown-version"
    assert "latest.pt" in str(caught.value)


def test_a_folder_without_songs_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        find_taught(data / "songs", 1)
    assert caught.value.code == "no-music"
    assert "accompaniment" in str(caught.value)


def test_items_of_two_known_stems_are_judged_by_vocals_and_the_sum_of_the_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    stems = torch.randn(1, 4, 2, 2000, generator=generator)
    taught = torch.stack([stems[:, 0], 0 * stems[:, 0], 0 * stems[:, 0], stems[:, 1:].sum(1)], 1)
    known, unknown = torch.tensor([True]), torch.tensor([False])
    # errors of -30 dB and less count as none: log10(2e-3) and log10(2e-3 + the floor's share) bound the SNR's part
    assert recipe.loss_of(stems, taught, unknown) == pytest.approx(float(recipe.loss_of(taught, taught, unknown)))
    assert recipe.loss_of(stems, taught, unknown) < -20
    assert recipe.loss_of(stems, taught, known) > 0
    assert recipe.loss_of(taught.flip(1), taught, unknown) > 0


def test_si_sdr_of_a_known_angle() -> None:
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    other = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    # an orthogonal error of a tenth of the amplitude is 20 dB below, whatever the gain
    assert float(recipe.si_sdr_db(3 * (target + 0.1 * other), target)) == pytest.approx(20.0, abs=1e-4)


def test_hear_tells_the_levels_of_a_teachers_excerpts(data: Path, tmp_path: Path) -> None:
    separator = load_separator(data / "separator" / "separator.yaml", data / "separator" / "separator.safetensors")
    excerpt = find_taught(data / "taught", 1)[0][0]
    row = recipe.heard(excerpt, separator)
    vocals, rest = (excerpt.read(i, 0, excerpt.frames) for i in range(2))
    assert set(row) == {f"{stem}_lu" for stem in (*STEMS, "teacher")} | {"vocals_si_sdr_db", "rest_si_sdr_db"}
    # two noises with tones of one level: 3 dB below their sum, and K-weighting moves each tone by 3 dB at most
    rms_db = 10 * np.log10(np.square(vocals).mean() / np.square(vocals + rest).mean())
    assert row["teacher_lu"] == pytest.approx(rms_db, abs=4)
