"""Which code describes clips: by the processor, by environment variables, and by what can be built."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.descriptor_signals import RATE, music

from mixstyle.pipeline.descriptors import compute
from mixstyle.pipeline.descriptors.kernels.measure import FLAGS, NAME
from mixstyle.stages.common import descriptor_kernel as module
from mixstyle.stages.common.notes import begin_notes

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has not asked for the kernel yet."""
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    module._kernel.cache_clear()
    yield
    module._kernel.cache_clear()


@pytest.fixture
def there() -> None:
    if module.descriptor_kernel() is None:
        pytest.skip("a processor without AVX2, or no C compiler")


@pytest.mark.usefixtures("there")
def test_clips_on_the_cpu_are_described_by_the_kernel() -> None:
    stems = music(RATE)
    found = module.describe(stems)
    assert torch.equal(found, compute.describe(stems, kernel=module.descriptor_kernel()))
    # sums of 44,100 float32 squares in another order move a power by sqrt(44100) 2^-24 = 1.3e-5, a level by 6e-5 dB
    assert (found - compute.describe(stems)).abs().max() < 1e-4
    torch.testing.assert_close(module.describe(stems, 48_000), compute.describe(stems, 48_000), atol=1e-4, rtol=0)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("case", ["other instructions are asked for", "another processor"])
def test_everywhere_else_torchs_code_gives_its_own_bits(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stems = music(RATE)
    if case == "another processor":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO AVX")
    else:
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert module.descriptor_kernel() is None
    assert torch.equal(module.describe(stems), compute.describe(stems))


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_it_says_so_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.backends.cpu.get_cpu_capability() not in FLAGS:
        pytest.skip("a processor without AVX2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    begin_notes()
    stems = music(RATE)
    for _ in range(2):
        assert torch.equal(module.describe(stems), compute.describe(stems))
    assert capsys.readouterr().err.count("no C compiler") == 1


@pytest.mark.usefixtures("there")
def test_a_store_goes_on_with_what_it_was_begun_with(capsys: pytest.CaptureFixture[str]) -> None:
    begin_notes()
    kernel = module.descriptor_kernel()
    assert module.kernel_of(None, CPU) is module.kernel_of(NAME, CPU) is kernel
    assert module.kernel_of("", CPU) is None
    assert module.kernel_of(None, torch.device("cuda")) is None
    assert capsys.readouterr().err == ""
    assert module.kernel_of("c 0", CPU) is None
    assert "c 0" in capsys.readouterr().err
