"""The kernel that measures clips against the float64 oracle, torch's code, scipy's recursion and pyloudnorm."""

import pickle
from dataclasses import replace

import numpy as np
import pyloudnorm
import pytest
import scipy.signal
import torch
from helpers import descriptor_oracle
from helpers.descriptor_signals import HARD, INDEX, RATE, music, within_limits
from torch import Tensor

from mixstyle.cache.storage.compiled import NotCompiledError, compiled
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, describe
from mixstyle.pipeline.descriptors.k_weighting import k_weighting_filters
from mixstyle.pipeline.descriptors.kernels import measure as module
from mixstyle.pipeline.descriptors.kernels.measure import FLAGS, SOURCE, MeasureKernel
from mixstyle.pipeline.descriptors.measured import Measured, measure
from mixstyle.pipeline.descriptors.spectrum import COARSE_HOP, DECIMATION, FINE_HOP
from mixstyle.pipeline.descriptors.table import DECLARED

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDING = 1e-3
"""Of a descriptor's unit: what the kernel and torch's code may be off from float64, each for itself."""
FRAMES = 32
"""That the kernel transforms at once, at most."""


@pytest.fixture(scope="module", params=list(FLAGS))
def kernel(request: pytest.FixtureRequest) -> MeasureKernel:
    """For each kind of processor, as far as this one has its instructions."""
    if torch.backends.cpu.get_cpu_capability() not in list(FLAGS)[list(FLAGS).index(request.param) :]:
        pytest.skip(f"no processor with {request.param}")
    try:
        return compiled(SOURCE, FLAGS[request.param], MeasureKernel)
    except NotCompiledError as error:
        pytest.skip(str(error))


def worst(found: Tensor, wanted: Tensor) -> tuple[float, str]:
    """The largest difference of descriptors [B, D], in their units, and of which."""
    off = (found - wanted).abs().amax(0)
    assert not off.isnan().any()
    return off.max().item(), DESCRIPTORS[int(off.argmax())].name


def test_equals_the_float64_oracle(kernel: MeasureKernel) -> None:
    stems = music()
    found = describe(stems, kernel=kernel)
    wanted = torch.from_numpy(descriptor_oracle.oracle(stems[0].numpy()))
    off, name = worst(found.double(), wanted[None])
    assert off < ROUNDING, name


LENGTHS = (
    0.4 * RATE,  # the shortest
    2 * FINE_HOP * FRAMES - 1,  # as many frames as fill all lanes, and one more
    2 * FINE_HOP * FRAMES,
    COARSE_HOP * DECIMATION * FRAMES - 1,
    COARSE_HOP * DECIMATION * FRAMES,
    30_011,  # a prime: no multiple of anything
    2.345 * RATE,  # steps of loudness end half way, and are rounded to even
    2.355 * RATE,
)


@pytest.mark.parametrize("samples", LENGTHS)
def test_equals_torchs_code_at_all_lengths(kernel: MeasureKernel, samples: float) -> None:
    stems = music(int(samples), seed=3)
    off, name = worst(describe(stems, kernel=kernel), describe(stems))
    assert off < ROUNDING, name


@pytest.mark.parametrize("rate", [32_040, 48_000, 96_000])
def test_equals_torchs_code_at_other_rates(kernel: MeasureKernel, rate: int) -> None:
    stems = music(rate + 77, seed=4)
    off, name = worst(describe(stems, rate, kernel=kernel), describe(stems, rate))
    assert off < ROUNDING, name


@pytest.mark.parametrize("samples", [30_011, 2 * RATE])
def test_what_is_measured_is_what_torch_measures(kernel: MeasureKernel, samples: int) -> None:
    """Tile by tile and frame by frame, within float32's rounding of a frame's largest values."""
    stems = music(samples, seed=5)
    found, wanted = kernel.measure(stems, RATE), measure(stems, RATE)
    for name in ("coarse_tiles", "fine_tiles"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert ours.shape == theirs.shape
        # the two frames of a transform share their rounding, so that of the louder counts: 1e-6 in amplitude
        assert (ours.sqrt() - theirs.sqrt()).abs().max() < 1e-6 * theirs.amax().sqrt(), name
    for name in ("left", "right", "mid", "side", "peak", "bands"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=1e-5, atol=0)
    uncounted = describe_of(replace(found, masked=None))
    # dB: a sum of 8,192 squares is rounded by sqrt(8192) 2^-24 = 5.4e-6 of itself, a ratio of two by 3.3e-5 dB
    torch.testing.assert_close(describe_of(found), uncounted, rtol=0, atol=1e-4)


def describe_of(measured: Measured) -> Tensor:
    return torch.cat([group.measure(measured) for group in DECLARED], -1).flatten(1)


@pytest.mark.parametrize("rate", [32_040, 44_100, 48_000])
def test_loudness_equals_pyloudnorms(kernel: MeasureKernel, rate: int) -> None:
    stems = music(rate * 3 + 1234, seed=6)
    found = kernel.measure(stems, rate)
    meter = pyloudnorm.Meter(rate)
    signals = stems[0].double().numpy()
    wanted = [meter.integrated_loudness(stem.T) for stem in (*signals, signals.sum(0))]
    # single samples at the edges of pyloudnorm's blocks
    np.testing.assert_allclose([*found.lufs[0], found.mix_lufs[0]], wanted, rtol=0, atol=1e-3)


def test_steps_of_loudness_are_those_of_a_recursion_in_float64(kernel: MeasureKernel) -> None:
    """One block of four steps: what passes the gate is their mean square."""
    samples = 17_640
    stems = music(samples, seed=7)
    weighted = stems[0].double().numpy()
    for b, a in k_weighting_filters(RATE):
        weighted = np.asarray(scipy.signal.lfilter(b, a, weighted))
    wanted = -0.691 + 10 * np.log10(np.square(weighted).mean(-1).sum(-1))
    np.testing.assert_allclose(kernel.measure(stems, RATE).lufs[0], wanted, rtol=0, atol=1e-5)  # LU, in float32


@pytest.mark.parametrize("kind", HARD)
def test_hard_signals_have_torchs_values(kernel: MeasureKernel, kind: str) -> None:
    stems = HARD[kind]()
    found, wanted = describe(stems, kernel=kernel), describe(stems)
    within_limits(found[0])
    # of a constant and of a square wave, what the empty bands hold is rounding: in both ways another
    rounding = {"constant", "opposite constants", "full-scale square", "square at half the rate", "one faint sample"}
    if kind not in rounding:
        off, name = worst(found, wanted)
        assert off < ROUNDING, name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_no_number_is_not_described_as_one(kernel: MeasureKernel, bad: float) -> None:
    clips = torch.cat([music(RATE), music(RATE)])
    plain = describe(clips, kernel=kernel)
    for at in (0, 5000, RATE - 1):
        clips[0, 1, 0, at] = bad
        result = describe(clips, kernel=kernel)
        for d in DESCRIPTORS:
            concerned = d.stem == "bass" or d.group == "masking" or d.name.endswith("relative_loudness_lu")
            right = d.name == "bass_rms_right_dbfs"  # the channel that is whole
            assert not result[0, INDEX[d.name]].isfinite() or not concerned or right, d.name
            assert result[0, INDEX[d.name]].isfinite() or concerned, d.name
        assert torch.equal(result[1], plain[1])
        clips[0, 1, 0, at] = 0.0


def test_a_narrow_stem_has_its_own_side(kernel: MeasureKernel) -> None:
    """A side 130 dB below a loud low mid: were both transformed as one, rounding of the mid would stand in it."""
    samples = 2 * RATE + 1
    low = 0.9 * torch.cos(2 * torch.pi * 60 * torch.arange(samples) / RATE)  # its reflections go on smoothly
    stems = torch.zeros(1, 4, 2, samples)
    hiss = 2.0**-22 * torch.randn(samples, generator=torch.Generator().manual_seed(0))
    stems[0, 0] = torch.stack([low + hiss, low - hiss])
    side = (stems[0, 0, 0] - stems[0, 0, 1]).double().numpy()  # without rounding: the two are nearly equal
    _, fine = descriptor_oracle.both_resolutions(side)
    wanted = descriptor_oracle.within(fine, 4000.0, RATE / 2, RATE).mean()
    assert kernel.measure(stems, RATE).bands[0, 0, 1, -1].item() == pytest.approx(wanted, rel=1e-4)


def test_threads_batches_and_strides_change_no_bit(kernel: MeasureKernel) -> None:
    clips = torch.cat([music(RATE + 77, seed) for seed in range(3)])
    together = describe(clips, kernel=kernel)
    for i in range(3):
        assert torch.equal(describe(clips[i : i + 1], kernel=kernel)[0], together[i])
    torch.set_num_threads(2)
    for _ in range(3):  # in whatever order the threads come to their parts
        assert torch.equal(describe(clips, kernel=kernel), together)
    strided = clips.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    assert torch.equal(describe(strided, kernel=kernel), together)
    assert torch.equal(describe(clips.double(), kernel=kernel), together)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(describe(clips, kernel=kernel), together)


def test_memory_is_taken_again_for_other_lengths(kernel: MeasureKernel) -> None:
    short, long = music(RATE), music(3 * RATE)
    first = describe(short, kernel=kernel)
    describe(long, kernel=kernel)
    assert torch.equal(describe(short, kernel=kernel), first)


def test_refuses_what_torchs_code_refuses(kernel: MeasureKernel) -> None:
    for stems, rate in ((music(17_639), RATE), (music(), 22_050), (music(), 44_101), (music()[:, :3], RATE)):
        with pytest.raises(ValueError):
            describe(stems, rate, kernel=kernel)
    assert describe(torch.zeros(0, 4, 2, RATE), kernel=kernel).shape == (0, len(DESCRIPTORS))


def test_the_check_finds_another_result(kernel: MeasureKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.check()
    right = kernel.measure
    for name in ("lufs", "bands", "fine_tiles", "masked"):

        def wrong(stems: Tensor, rate: int, name: str = name) -> Measured:
            found = right(stems, rate)
            return replace(found, **{name: getattr(found, name) * 1.001})

        monkeypatch.setattr(kernel, "measure", wrong)
        with pytest.raises(OSError, match=name):
            kernel.check()


def test_another_version_is_refused(kernel: MeasureKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    with pytest.raises(OSError, match="version"):
        MeasureKernel(kernel.library)


def test_is_not_sent_to_other_processes(kernel: MeasureKernel) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(kernel)
