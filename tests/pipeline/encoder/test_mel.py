"""The log-mel against a float64 transform written out, and what its constants promise."""

import re
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio

from mixstyle.pipeline.encoder.mel import CENTER_DB, FLOOR_POWER, SCALE_DB, StemMel, mel_filters


def slaney_filters(rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """Slaney's Auditory Toolbox: 200/3 Hz a mel up to 1 kHz, above it 27 mels to a factor of 6.4."""

    def to_hz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * np.log(rate / 2 / 1000) / np.log(6.4)
    points = [to_hz(m) for m in np.linspace(0, top, n_mels + 2)]
    filters = np.zeros((n_fft // 2 + 1, n_mels))
    for k in range(n_fft // 2 + 1):
        hz = k * rate / n_fft
        for m in range(n_mels):
            low, peak, high = points[m : m + 3]
            filters[k, m] = max(0.0, min((hz - low) / (peak - low), (high - hz) / (high - peak)))
    return filters


def log_mel_oracle(channel: np.ndarray, rate: int, n_fft: int, hop: int, n_mels: int) -> np.ndarray:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.pad(channel.astype(np.float64), n_fft // 2, mode="reflect")
    frames = [padded[s : s + n_fft] * window for s in range(0, len(padded) - n_fft + 1, hop)]
    power = np.abs(np.fft.rfft(frames, axis=-1) / (window.sum() / 2)) ** 2
    level_db = 10 * np.log10(power @ slaney_filters(rate, n_fft, n_mels) + 1e-9)
    return ((level_db + 50) / 20).T


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n_fft", "hop", "n_mels"), [(1024, 256, 128), (1024, 512, 128), (512, 128, 40)])
def test_equals_a_float64_oracle(n_fft: int, hop: int, n_mels: int) -> None:
    stems = noise(2, 4, 2, 9_001)
    mel = StemMel(44_100, n_fft, hop, n_mels)(stems)
    assert mel.shape == (2, 8, n_mels, 1 + 9_001 // hop)
    for item, channel in ((0, 0), (1, 5)):
        expected = log_mel_oracle(stems[item].flatten(0, 1)[channel].numpy(), 44_100, n_fft, hop, n_mels)
        # 1e-4 of the normalised unit is 0.002 dB: float32's rounding of the weakest bins.
        np.testing.assert_allclose(mel[item, channel].numpy(), expected, atol=1e-4)


def test_a_full_scale_sine_has_the_power_of_its_main_lobe() -> None:
    k = 100
    time = torch.arange(44_100) / 44_100
    sine = torch.sin(2 * torch.pi * k * 44_100 / 1024 * time).expand(1, 4, 2, -1)
    mel = StemMel()(sine)[0, 0, :, 50]
    power = (10 ** ((mel * SCALE_DB + CENTER_DB) / 10) - FLOOR_POWER).sum()
    # A Hann window's main lobe is 1/4 + 1 + 1/4 in power, and interior filters add up to 1 at every frequency.
    assert power.item() == pytest.approx(1.5, rel=1e-3)


def test_a_gain_shifts_all_mels_by_its_decibels() -> None:
    stems = noise(1, 4, 2, 22_050)
    mel = StemMel()
    before = mel(stems)
    moved = mel(stems * 10 ** (6 / 20)) - before
    loud = before * SCALE_DB + CENTER_DB > -60
    assert loud.float().mean() > 0.9
    # 30 dB above the floor of -90 the floor holds back 0.004 dB at most.
    torch.testing.assert_close(moved[loud], torch.full_like(moved[loud], 6 / SCALE_DB), atol=3e-4, rtol=0)


def test_a_clip_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    stems, mel = noise(3, 4, 2, 8_000), StemMel()
    together = mel(stems)
    assert torch.equal(mel(stems[1:2]), together[1:2])
    monkeypatch.setattr("mixstyle.pipeline.encoder.mel._CHANNELS_AT_ONCE", {})  # the way of a GPU
    torch.testing.assert_close(mel(stems), together, atol=1e-5, rtol=0)
    torch.testing.assert_close(mel.log_mel(mel.spectrum(stems)), together, atol=1e-5, rtol=0)


def test_silence_is_the_floor() -> None:
    mel = StemMel()(torch.zeros(1, 4, 2, 4096))
    assert mel.unique().tolist() == pytest.approx([(10 * np.log10(FLOOR_POWER) - CENTER_DB) / SCALE_DB])


def test_frames_of_a_coarser_hop_are_frames_of_a_finer_one() -> None:
    stems = noise(1, 4, 2, 10_000)
    fine, coarse = StemMel(hop_length=256)(stems), StemMel(hop_length=512)(stems)
    torch.testing.assert_close(fine[..., ::2], coarse)


@pytest.mark.parametrize("samples", [513, 1023, 1024, 44_100, 44_101])
def test_frames_are_counted(samples: int) -> None:
    mel = StemMel()
    assert mel(torch.zeros(1, 4, 2, samples)).shape[-1] == mel.frames(samples)


def test_stays_float32_under_autocast_and_low_matmul_precision() -> None:
    stems, mel = noise(1, 4, 2, 8_000), StemMel()
    plain = mel(stems)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = mel(stems)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, plain, rtol=0, atol=0)  # the same code in the same precision: to the last bit


def test_every_filter_holds_a_bin_where_htk_leaves_one_empty() -> None:
    assert (mel_filters(44_100, 1024, 128).amax(0) > 0).all()
    with pytest.warns(UserWarning, match="n_mels.*128"):
        htk = torchaudio.functional.melscale_fbanks(513, 0.0, 22_050.0, 128, 44_100, mel_scale="htk")
    assert (htk.amax(0) == 0).any()


def test_filters_are_slaneys() -> None:
    # torchaudio has the edges in float32: near 22 kHz one is off by some 0.01 Hz, 1.4e-5 of a slope of 700 Hz
    np.testing.assert_allclose(mel_filters(44_100, 1024, 128).numpy(), slaney_filters(44_100, 1024, 128), atol=5e-5)


@pytest.mark.filterwarnings("error")  # the library's own, vaguer, warning stays away
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"hop_length": 300}, "hop_length=300"),
        ({"hop_length": 2048}, "hop_length=2048"),
        ({"n_fft": 512, "hop_length": 128}, "n_mels=128"),
        ({"n_mels": 0}, "n_mels"),
    ],
)
def test_refuses_settings_that_do_not_go_together(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        StemMel(**settings)


@pytest.mark.parametrize("shape", [(4, 2, 5000), (1, 8, 5000), (1, 3, 2, 5000), (1, 4, 2, 512)])
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    told = r"n_fft=1024" if shape[:3] == (1, 4, 2) else re.escape(str(list(shape)))
    with pytest.raises(ValueError, match=told):
        StemMel()(torch.zeros(shape))


def test_mid_and_side_are_half_the_sum_and_half_the_difference() -> None:
    stems = torch.randn(2, 4, 2, 8_000, generator=torch.Generator().manual_seed(0))
    left, right = stems[:, :, 0], stems[:, :, 1]
    pairs = torch.stack([(left + right) / 2, (left - right) / 2], 2)
    assert torch.equal(StemMel(channels="mid-side")(stems), StemMel()(pairs))
    with pytest.raises(ValueError, match="channels"):
        StemMel(channels="left")
