"""What must hold on a CUDA device; skipped where there is none."""

import pytest
import torch
from helpers.paths import DATA

from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, describe
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig, Form
from mixstyle.pipeline.encoder.losses import info_nce
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.executor import BatchExecutor, ChunkQueue
from mixstyle.pipeline.separation.separator import load_separator

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.fixture(autouse=True)
def exact_float32(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No TF32, except where a test is about a lower precision: what is allowed holds for that, too."""
    if "precision" not in request.fixturenames:
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("batch_chunks", [1, 4])
def test_separation_equals_the_cpu(batch_chunks: int) -> None:
    files = DATA / "scnet_masked_a.yaml", DATA / "scnet_masked_a.ckpt"
    mixture = noise(2, 150_000)
    cpu = load_separator(*files).separate([mixture])[0]
    cuda = load_separator(*files, device="cuda", batch_chunks=batch_chunks).separate([mixture])[0]
    # 1e-4 of full scale, -80 dBFS: other kernels sum in another order
    torch.testing.assert_close(cuda, cpu, atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_stays_near(precision: str) -> None:
    files = DATA / "scnet_masked_a.yaml", DATA / "scnet_masked_a.ckpt"
    mixture = noise(2, 150_000)
    cpu = load_separator(*files).separate([mixture])[0]
    cuda = load_separator(*files, device="cuda", precision=precision).separate([mixture])[0]  # type: ignore[arg-type]
    error_db = 10 * torch.log10((cuda - cpu).square().mean() / cpu.square().mean())
    assert error_db < -35


def test_two_streams_give_what_one_gives() -> None:
    separator = load_separator(DATA / "scnet_masked_a.yaml", DATA / "scnet_masked_a.ckpt", device="cuda")
    mixture = noise(2, 300_000)
    found = []
    for streams in (1, 2):
        with BatchExecutor(separator, streams=streams, batch_chunks=2) as executor:
            queue = ChunkQueue(executor)
            queue.put(0, [ClipRequest(300_000, 0, 300_000, 0, mixture)])
            found += [stems for group in queue.finished(wait=True) for stems in group.stems]
    assert torch.equal(*found)


def test_a_batch_is_reduced_when_memory_runs_out() -> None:
    separator = load_separator(DATA / "scnet_masked_a.yaml", DATA / "scnet_masked_a.ckpt", device="cuda")
    mixture = noise(2, 2_000_000)
    request = ClipRequest(2_000_000, 0, 2_000_000, 0, mixture)
    expected = separator.separate([mixture])[0]
    chunk = mixture[:, : separator.chunk_frames]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    separator.run_network(chunk[None])
    room = 5 * torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    reduced: list[int] = []
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        with BatchExecutor(separator, 1, 1, 64, reduced.append) as executor:
            queue = ChunkQueue(executor)
            queue.put(0, [request])
            (group,) = queue.finished(wait=True)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert reduced
    assert group.batch_chunks[0] == reduced[-1] < 64
    # 1e-4 of full scale, -80 dBFS: other batches choose other kernels
    torch.testing.assert_close(group.stems[0], expected, atol=1e-4, rtol=0)


def test_descriptors_and_mel_equal_the_cpu() -> None:
    stems = noise(3, 4, 2, 4 * 44_100)
    # a thousandth of each descriptor's unit (dB, LU, ratio)
    torch.testing.assert_close(describe(stems.cuda()).cpu(), describe(stems), atol=1e-3, rtol=1e-3)
    mel = StemMel()
    torch.testing.assert_close(mel.cuda()(stems.cuda()).cpu(), mel.cpu()(stems), atol=1e-3, rtol=1e-3)


def test_a_training_step_under_autocast() -> None:
    torch.manual_seed(0)
    encoder, mel = Encoder(EncoderConfig(n_descriptors=len(DESCRIPTORS))).cuda(), StemMel().cuda()
    stems = noise(6, 4, 2, 5 * 44_100).cuda()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        with torch.autocast("cuda", torch.bfloat16):
            out = encoder(mel(stems), describe(stems))
        loss = info_nce(*out.float().chunk(3), temperature=0.1).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("form", ["grouped", "channels_last"])
def test_every_form_of_the_encoder_gives_what_the_loop_gives(form: Form) -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(channels=(8, 16), dropout=0.0)).cuda()
    mel, descriptors = noise(6, 8, 128, 120).cuda(), noise(6, len(DESCRIPTORS)).cuda()
    found = []
    for chosen in ("loop", form):
        encoder.form = chosen
        encoder.zero_grad()
        out = encoder(mel, descriptors)
        out.square().sum().backward()
        found.append((out.detach(), [p.grad.clone() for p in encoder.parameters() if p.grad is not None]))
    (out, grads), (other, others) = found
    torch.testing.assert_close(other, out, atol=1e-4, rtol=0)  # other kernels sum in another order
    for one, two in zip(grads, others, strict=True):
        torch.testing.assert_close(two, one, atol=1e-3 * max(1.0, float(one.abs().max())), rtol=0)
