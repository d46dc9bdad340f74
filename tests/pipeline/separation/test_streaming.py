"""A song separated as it streams by has the stems of the same song separated whole."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers.small_separator import CHUNK, song, write_separator
from torch import Tensor

from mixstyle.pipeline.separation.executor import BatchExecutor
from mixstyle.pipeline.separation.separator import Separator, load_separator
from mixstyle.pipeline.separation.streaming import Level, separate_blocks


@pytest.fixture(scope="module")
def separators(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Separator]:
    return {
        normal: load_separator(*write_separator(tmp_path_factory.mktemp("separator"), normalize=normal))
        for normal in (False, True)
    }


def cut(audio: Tensor, frames: int) -> Iterator[Tensor]:
    yield from audio.split(frames, 1)


def streamed(separator: Separator, mix: Tensor, frames: int, batch: int = 1) -> tuple[Tensor, Tensor, int]:
    mono = mix.double().mean(0)
    level = Level(float(mono.mean()), float(mono.std(correction=0)))
    with BatchExecutor(separator, 1, 1, batch) as executor:
        parts = list(separate_blocks(separator, executor, cut(mix, frames), mix.shape[1], level))
    return torch.cat([p[0] for p in parts], 1), torch.cat([p[1] for p in parts], -1), max(p[0].shape[1] for p in parts)


# shorter than a chunk, with a rest of some samples, and with chunks that lie in the reflected border alone
@pytest.mark.parametrize(
    ("normal", "frames"), [(False, 3_000), (True, 3_000), (True, 2 * CHUNK + 7), (False, 4 * CHUNK + CHUNK // 2 + 1)]
)
def test_blocks_are_the_whole(separators: dict[bool, Separator], normal: bool, frames: int) -> None:
    mix = torch.from_numpy(song(frames, frames / 44_100)[:frames].T.copy())
    expected = separators[normal].separate([mix])[0]
    same, stems, largest = streamed(separators[normal], mix, 1_234)
    assert torch.equal(same, mix)
    # of stems near full scale: the mean in float64 instead of float32
    torch.testing.assert_close(stems, expected, atol=2e-6, rtol=0)
    assert largest <= CHUNK


def test_batches_change_nothing_but_last_bits(separators: dict[bool, Separator]) -> None:
    mix = torch.from_numpy(song(5, 0.8).T.copy())
    one, three = (streamed(separators[False], mix, 50_000, batch)[1] for batch in (1, 3))
    torch.testing.assert_close(one, three, atol=1e-5, rtol=0)  # -100 dB of full scale
    assert np.abs(one.numpy()).max() > 0.01


def test_a_mix_that_ends_early_is_refused(separators: dict[bool, Separator]) -> None:
    mix = torch.zeros(2, 3 * CHUNK)
    with (
        BatchExecutor(separators[False], 1, 1, 1) as executor,
        pytest.raises(ValueError, match=rf"\b{3 * CHUNK}\b.*\b{7 * CHUNK // 2}\b"),
    ):
        list(separate_blocks(separators[False], executor, cut(mix, 1000), 4 * CHUNK))
