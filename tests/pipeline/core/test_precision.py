"""Real float32 inside, and the program's own setting again outside."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mixstyle.pipeline.core.precision import exact_float32

BACKENDS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    before = [b.fp32_precision for b in BACKENDS]
    yield
    for backend, precision in zip(BACKENDS, before, strict=True):
        backend.fp32_precision = precision


@pytest.mark.parametrize("allowed", [("none", "none"), ("tf32", "none"), ("none", "bf16"), ("tf32", "bf16")])
def test_whatever_was_allowed_is_put_back(allowed: tuple[str, str]) -> None:
    """torch.get_float32_matmul_precision raises for three of these."""
    for backend, precision in zip(BACKENDS, allowed, strict=True):
        backend.fp32_precision = precision
    with exact_float32("cpu"):
        assert [b.fp32_precision for b in BACKENDS] == ["ieee", "ieee"]
    assert tuple(b.fp32_precision for b in BACKENDS) == allowed


def test_the_last_of_several_threads_puts_it_back() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    first, second = exact_float32("cpu"), exact_float32("cpu")
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(first.__enter__).result()
        other.submit(second.__enter__).result()
        one.submit(first.__exit__, None, None, None).result()
        assert torch.backends.cuda.matmul.fp32_precision == "ieee", "the second still computes"
        other.submit(second.__exit__, None, None, None).result()
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def test_is_put_back_after_an_error_too() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with pytest.raises(ZeroDivisionError), exact_float32("cpu"):
        _ = 1 // 0
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def test_products_are_float32_under_autocast() -> None:
    a = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    exact = a.double() @ a.double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with exact_float32("cpu"):
            product = a @ a
    assert product.dtype == torch.float32
    # 64 products of rounding 2^-24 each; bfloat16 would be off by 0.1
    torch.testing.assert_close(product.double(), exact, atol=1e-4, rtol=0)
