"""What must hold on a CUDA device; skipped where there is none."""

from pathlib import Path

import pytest
import torch

from mixstyle.pipeline.descriptors import DESCRIPTORS, describe
from mixstyle.pipeline.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.infonce import info_nce
from mixstyle.pipeline.mel import StemMel
from mixstyle.pipeline.separator import load_separator

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DATA = Path(__file__).parent.parent / "data"


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.fixture(autouse=True)
def exact_matmul() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


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
