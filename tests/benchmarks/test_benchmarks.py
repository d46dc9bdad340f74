"""The benchmarks measure what they say: the plain way separates as ours does, and each prints its rows."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.benchmarks import benchmark
from helpers.small_bank import describe_bank, make_bank
from helpers.small_cache import make_cache
from helpers.small_separator import CHUNK, song, write_separator
from helpers.small_separator import profile as small_separator_profile
from helpers.snr import snr_db
from helpers.training import CLIP_S, profile, settings_of
from torch import nn

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.separation.architectures.scnet_network import SCNet, form_of
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.pipeline.separation.separator_checkpoint import read_separator_config, read_state_dict
from mixstyle.stages.common.descriptor_kernel import descriptor_kernel
from mixstyle.stages.features.stage import features


@pytest.mark.parametrize("over_time", [False, True])
@torch.inference_mode()
def test_every_way_of_an_lstm_adds_the_same(monkeypatch: pytest.MonkeyPatch, over_time: bool) -> None:
    layer = benchmark("lstm", monkeypatch).Layer(32, 3, 5, over_time)
    ways = layer.ways(False)
    wanted = ways.pop("torch, fp32")(layer.x) - layer.x
    assert len(ways) >= 2
    for name, way in ways.items():
        # dB: inputs, states and two sums rounded to 8 bits, as weights are, by 53 dB each
        assert snr_db(wanted, way(layer.x) - layer.x) > 40, name


@pytest.mark.parametrize(("num_overlap", "frames"), [(2, 5 * CHUNK + 100), (4, 4 * CHUNK), (1, CHUNK // 2)])
def test_the_plain_way_gives_the_same_stems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_overlap: int, frames: int
) -> None:
    plain = benchmark("plain_scnet", monkeypatch)
    files = write_separator(tmp_path)
    state = read_state_dict(files[1])
    file = read_separator_config(files[0])
    network = SCNet(file.model, form_of(state))
    network.load_state_dict(state)
    mixture = torch.from_numpy(song(0, frames / 44_100).T.copy())
    stems = plain.separate_plainly(plain.as_published(network), mixture, CHUNK, num_overlap, False)
    separator = load_separator(*files, num_overlap=num_overlap)
    ours = separator.separate([mixture])[0]
    order = [file.instruments.index(stem) for stem in ("vocals", "bass", "drums", "other")]
    # full scale is 1: float32 sums in another order
    torch.testing.assert_close(stems[order], ours, atol=1e-5, rtol=0)


def test_matrix_work_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = benchmark("plain_scnet", monkeypatch)

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 6, 3, padding=1, groups=2)
            self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
            self.linear = nn.Linear(10, 7)
            self.up = nn.ConvTranspose1d(7, 3, 4, stride=4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.linear(self.lstm(self.conv(x).mT)[0])
            return self.up(x.mT)

    frames = 11
    conv = frames * 6 * 1 * 3
    lstm = frames * 2 * 4 * 5 * ((6 + 5) + (10 + 5))
    linear, up = frames * 10 * 7, frames * 7 * 3 * 4
    assert plain.count_flops(Layers(), frames) == 2 * (conv + lstm + linear + up)


def test_si_sdr(monkeypatch: pytest.MonkeyPatch) -> None:
    separation = benchmark("separation", monkeypatch)
    rng = np.random.default_rng(0)
    signal, noise = rng.standard_normal((2, 2, 50_000))
    noise -= signal * (noise.ravel() @ signal.ravel()) / (signal.ravel() @ signal.ravel())
    noise *= 0.01 * np.linalg.norm(signal) / np.linalg.norm(noise)
    assert separation.si_sdr_db(signal, 3.0 * (signal + noise)) == pytest.approx(40.0, abs=1e-9)  # dB, float64


@pytest.mark.slow
def test_descriptors_prints_every_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("descriptors", monkeypatch).main(None, 1, True)
    out = capsys.readouterr().out
    for row in ("torch, batch 1, 1 threads", "torch, batch 8, 1 threads", "plain loop", "floor, one thread", "sharing"):
        assert row in out
    assert ("kernel, batch 8, 1 threads" in out) == (descriptor_kernel() is not None)
    assert float(out.split("kernel against torch: at most ")[1].split()[0]) < 1e-3  # of a unit
    assert "StemFX" in out  # its rows, or the line that says it is missing
    found = float(out.split("gated loudness: at most ")[1].split()[0])
    assert found < 0.05  # LU


@pytest.mark.slow
def test_features_prints_its_ratio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("features", monkeypatch).main(None, 1, 1, 1)
    out = capsys.readouterr().out
    assert "20 s of clips in 1 shards, 1 threads" in out
    assert "times as long as decoding alone" in out


@pytest.mark.slow
def test_training_prints_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_cache(tmp_path / "stems", tracks=6, clips=3, clip_s=CLIP_S, validation=2)
    config = profile(tmp_path / "run", workers=1)
    features(settings_of(tmp_path / "run", workers=1))
    benchmark("training", monkeypatch).main(str(config), None, 1, 1, False)
    out = capsys.readouterr().out
    for row in ("loop, fp32, data at hand", "grouped, bf16, data at hand", "channels_last, bf16", "waiting for data"):
        assert row in out
    ratio = float(out.split("fp32: a step takes ")[1].split()[0])
    assert ratio > 0


@pytest.mark.slow
def test_training_measures_a_bank_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bank(tmp_path / "bank", blocks=4, groups=2, contents=3, clip_s=1.0)
    describe_bank(StemCache(tmp_path / "bank"), tmp_path / "bank.zarr")
    config = profile(tmp_path / "run", workers=1, objective="chain-grid", batch_size=4, mels_dir=str(tmp_path / "mels"))
    places = [f"remix.remix_dir={tmp_path / 'bank'}", f"remix.features_path={tmp_path / 'bank.zarr'}"]
    benchmark("training", monkeypatch).main(str(config), places, 2, 1, False, 1)
    out = capsys.readouterr().out
    assert "4 groups, 12 clips" in out
    for name in ("spectrograms", "stems"):
        rows = {
            way: [float(word) for word in line.replace("│", " ").split()[-3:]]
            for line in out.splitlines()
            for way in ("data at hand", "with its loader")
            if f"{name}, {way}" in line
        }
        (still_s, no_wait_s, _), (fed_s, wait_s, _) = rows["data at hand"], rows["with its loader"]
        assert 0 <= no_wait_s <= wait_s < fed_s
        # printed to a millisecond, of steps of 10 ms or more: within a tenth
        told = float(out.split(f"{name}: a step takes ")[1].split()[0])
        assert told == pytest.approx(fed_s / still_s, rel=0.1)
        item_ms = float(out.split(f"{name}: an item takes ")[1].split()[0])
        assert item_ms > 0


@pytest.mark.slow
def test_match_prints_rates_of_its_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_separator(tmp_path / "separator", num_overlap=1)
    small_separator_profile(tmp_path, tmp_path / "none")
    benchmark("match", monkeypatch).main(str(tmp_path / "profile.yaml"), None, 8.0, 1, 0)
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    found = {row[0]: row[1:] for row in rows}
    assert set(found) == {
        f"{what}, {kind}" for what in ("closed form", "rendering and writing") for kind in ("true stems", "separated")
    }
    for name, (first_s, median_s, cpu_s, rate, _) in found.items():
        assert float(first_s) == float(median_s) > 0, name  # of one round
        assert float(cpu_s) > 0, name
        if name.startswith("rendering"):
            # the rate is printed without decimals, seconds with two
            assert float(rate) == pytest.approx(8.0 / float(median_s), abs=0.6, rel=0.1)


def test_readers_prints_both_ways_on_both_stores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("s3fs")
    before = dict(os.environ)
    try:
        benchmark("readers", monkeypatch).main(None, 8, 2, 0, 1, 0.2, 1.0, 500.0)
    finally:
        os.environ.clear()
        os.environ.update(before)
    out = capsys.readouterr().out
    for where in ("local disk", "slow store"):
        ratio = float(out.split(f"{where}: stream is ")[1].split()[0])
        assert ratio > 0
    rows = [line.split() for line in out.splitlines() if "random" in line or "stream" in line]
    sizes = {row[row.index(name) + 2] for row in rows for name in ("random", "stream") if name in row and "│" in row}
    assert len(sizes) == 1, "both read the same bytes"


@pytest.mark.slow
def test_bank_prints_what_a_clip_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_cache(tmp_path / "stems", tracks=6, clips=2, clip_s=1.0, validation=0)
    benchmark("bank", monkeypatch).main(tmp_path / "stems", 0.5, 4, 1, "bf16")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {" ".join(words[:-2]): words[-2:] for words in lines}
    assert float(rows["mixing, 8 effects"][0]) > float(rows["mixing, 0 effects"][0])
    assert float(rows["separating, bf16, num_overlap 1"][0]) > 0
    assert {f"all of it, bf16, {workers} threads mix" for workers in (1, 2)} <= {
        name.partition(" (")[0] for name in rows
    }
