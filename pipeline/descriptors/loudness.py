"""Integrated loudness by ITU-R BS.1770-4, batched: K-weighting, 400 ms blocks, absolute and relative gating.

The K-weighting's coefficients are pyloudnorm's own (its default, which at 997 Hz is 0.04 dB under the standard's
table for 48 kHz); filtering and gating are done here, for all signals at once. The filter is recursive, so it is run
block by block in state space, which turns it into matrix products. With the state s (4 numbers) at a block's start,
and the block's L inputs x and outputs y as columns,

    y = H x + O s,    s' = A^L s + R x

where H is the lower-triangular matrix of the impulse response, O's rows are C A^i and R's columns A^(L-1-i) B. The
states of all blocks follow from one more such step over groups of blocks. This is the recursive filter itself,
not an approximation: in float32 it stays within -100 dB of full scale of a float64 recursion, at every rate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixstyle.pipeline.core.precision import exact_float32
from mixstyle.pipeline.descriptors.k_weighting import (
    BLOCK_STEPS,
    LOUDNESS_FLOOR_LUFS,
    OFFSET_DB,
    RELATIVE_GATE_LU,
    k_weighting_filters,
    step_samples,
)

MOST_GAIN_DB = 60.0
"""Clips and mixes are brought to a loudness by no more than this."""

_CHANNEL_GAINS = (1.0, 1.0, 1.0, 1.41, 1.41)  # BS.1770-4 table 3: left, right, centre, surrounds

_BLOCK = 32  # samples that one matrix product filters
_SUMMED_AT_ONCE = 8192
_GROUPS_AT_ONCE = {"cpu": 16}  # on CPUs what is made of them then stays in the cache
_GROUP = 32  # blocks whose states one matrix product carries on


def integrated_loudness(audio: Tensor, sample_rate: int) -> Tensor:
    """Loudness [...] in LUFS of audio [..., C, T], C from 1 to 5 channels (left, right, centre, surrounds).

    Silence, and whatever else passes no gate, reads LOUDNESS_FLOOR_LUFS; NaN or infinity in the audio reads NaN.
    Raises ValueError for more channels, fewer than 400 ms, and a rate that is no multiple of 10 Hz.
    """
    step_samples(sample_rate)  # refuses a rate before a filter is designed for it
    return gated_loudness(step_power(k_weighted(audio, sample_rate), sample_rate))


def k_weighted(audio: Tensor, sample_rate: int) -> Tensor:
    """Audio [..., T] through BS.1770-4's two filters, starting from rest; float32, same shape."""
    parts = list(_k_weighted_parts(audio, sample_rate))
    return torch.cat(parts, -1) if parts else audio.float()


def _k_weighted_parts(audio: Tensor, sample_rate: int) -> Iterator[Tensor]:
    """What `k_weighted` gives, part after part: on CPUs each is small enough to stay in the cache."""
    filters = _on_device(sample_rate, str(audio.device))
    samples, span = audio.shape[-1], _BLOCK * _GROUP
    at_once = span * _GROUPS_AT_ONCE.get(audio.device.type, -(-samples // span) or 1)
    state = audio.new_zeros((*audio.shape[:-1], filters.order), dtype=torch.float32)
    for start in range(0, samples, at_once):
        part = audio[..., start : start + at_once].float()
        x = F.pad(part, (0, -part.shape[-1] % span)).reshape(-1, _BLOCK)
        with exact_float32(audio.device):
            inputs = (x @ filters.to_state).view(*audio.shape[:-1], -1, _GROUP * filters.order)
            states, state = _block_states(inputs, state, filters)
            y = (states.reshape(-1, filters.order) @ filters.from_state).addmm_(x, filters.response)
        yield y.view(*audio.shape[:-1], -1)[..., : part.shape[-1]]


def weighted_step_power(stems: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """`step_power` of K-weighted stems [..., S, C, T] and of their sum: [..., S, C, steps] and [..., C, steps].

    The filter is linear, so the sum's output is that of the stems; no output is ever held whole. Raises ValueError
    as `step_power` does.
    """
    step = step_samples(sample_rate)
    steps = _steps(stems.shape[-1], step)
    powers, sums = [], []
    rest = stems.new_zeros((*stems.shape[:-1], 0), dtype=torch.float32)
    for part in _k_weighted_parts(stems, sample_rate):
        begun = rest.shape[-1]
        first = torch.cat([rest, part[..., : step - begun]], -1) if begun else part[..., :0]
        part = part[..., step - begun if begun else 0 :]
        if 0 < first.shape[-1] < step:
            rest = first
            continue
        count = part.shape[-1] // step
        for whole in (
            first.unflatten(-1, (first.shape[-1] // step, step)),
            part[..., : count * step].unflatten(-1, (count, step)),
        ):
            powers.append(mean_square(whole))
            sums.append(mean_square(whole.sum(-4)))
        rest = part[..., count * step :]
    power, total = torch.cat(powers, -1), torch.cat(sums, -1)
    if steps > power.shape[-1]:
        last = F.pad(rest, (0, step - rest.shape[-1]))[..., None, :]
        power, total = torch.cat([power, mean_square(last)], -1), torch.cat([total, mean_square(last.sum(-4))], -1)
    return power, total


def step_power(weighted: Tensor, sample_rate: int) -> Tensor:
    """Mean square [..., C, steps] of K-weighted audio [..., C, T] in each 100 ms that gating blocks are made of.

    As pyloudnorm counts blocks, a last one that reaches less than half a step beyond the end is taken, filled up with
    zeros, and left out otherwise. Raises ValueError for fewer than 400 ms.
    """
    step, samples = step_samples(sample_rate), weighted.shape[-1]
    steps = _steps(samples, step)
    whole = F.pad(weighted, (0, max(0, steps * step - samples)))[..., : steps * step]
    return mean_square(whole.unflatten(-1, (steps, step)))


def count_steps(samples: int, sample_rate: int) -> int:
    """How many steps of 100 ms the blocks of a signal are made of, as `step_power` has them; raises as it does."""
    return _steps(samples, step_samples(sample_rate))


def _steps(samples: int, step: int) -> int:
    """How many steps of so many samples blocks are made of."""
    if samples < BLOCK_STEPS * step:
        raise ValueError(f"loudness needs {BLOCK_STEPS * step} samples (400 ms) or more, not {samples}")
    return round(samples / step)  # to even at one half, as numpy rounds


def mean_square(audio: Tensor) -> Tensor:
    """Mean square over the last dimension, in one pass over memory; summed by parts, for float32's sake."""
    parts = [torch.linalg.vector_norm(part, dim=-1).square() for part in audio.split(_SUMMED_AT_ONCE, -1)]
    return torch.stack(parts).sum(0) / audio.shape[-1]


def gated_loudness(power: Tensor) -> Tensor:
    """Integrated loudness [...] in LUFS from `step_power`'s mean squares [..., C, steps] (BS.1770-4 eq. 3 to 7)."""
    channels = power.shape[-2]
    if not 1 <= channels <= len(_CHANNEL_GAINS):
        raise ValueError(f"loudness is defined for 1 to {len(_CHANNEL_GAINS)} channels, not {channels}")
    gains = power.new_tensor(_CHANNEL_GAINS[:channels])
    steps = (power * gains[:, None]).sum(-2)
    blocks = steps.unfold(-1, BLOCK_STEPS, 1).mean(-1)  # eq. 3, summed over channels
    audible = blocks >= _power(LOUDNESS_FLOOR_LUFS)
    threshold = _gated_mean(blocks, audible) * 10 ** (RELATIVE_GATE_LU / 10)  # eq. 6
    kept = audible & (blocks > threshold[..., None])
    mean = _gated_mean(blocks, kept)
    loudness = OFFSET_DB + 10 * torch.log10(mean)  # eq. 7
    # NaN passes no gate; the last term carries it to the result.
    return torch.where(kept.any(-1), loudness, LOUDNESS_FLOOR_LUFS) + 0 * blocks.sum(-1)


def _gated_mean(blocks: Tensor, kept: Tensor) -> Tensor:
    total = torch.where(kept, blocks, 0.0).sum(-1)
    return total / kept.sum(-1).clamp(min=1)


def _power(loudness_lufs: float) -> float:
    return 10 ** ((loudness_lufs - OFFSET_DB) / 10)


def _block_states(inputs: Tensor, state: Tensor, filters: "_Filters") -> tuple[Tensor, Tensor]:
    """State [..., blocks, order] at each block's start from what each block adds to it [..., groups, GROUP * order],
    and the state [..., order] after the last; state: that before the first."""
    within = inputs @ filters.within_group  # as if every group started from rest
    # what came before counts as one more group, and the state after the last one is the start of one more
    added = torch.cat([state[..., None, :], inputs @ filters.to_group], -2)
    starts = added.clone()
    for later, carry in enumerate(filters.over_groups[1:], start=1):
        if later < starts.shape[-2]:
            starts[..., later:, :] += added[..., :-later, :] @ carry
    return within + starts[..., :-1, :] @ filters.into_blocks, starts[..., -1, :]


@dataclass(frozen=True)
class _Filters:
    """The K-weighting in state space over blocks; matrices are to the right of row vectors."""

    order: int
    response: Tensor
    """[BLOCK, BLOCK]: inputs to outputs."""
    from_state: Tensor
    """[order, BLOCK]: state at the block's start to outputs."""
    to_state: Tensor
    """[BLOCK, order]: inputs to what they add to the next block's state."""
    within_group: Tensor
    """[GROUP * order, GROUP * order]: what blocks add, to the states at the starts of the same group's blocks."""
    to_group: Tensor
    """[GROUP * order, order]: what blocks add, to the next group's state."""
    over_groups: Tensor
    """[reach, order, order]: what a group adds, to the states at the starts of later groups, the next one first."""
    into_blocks: Tensor
    """[order, GROUP * order]: a group's state to the states at its blocks' starts."""


@lru_cache(maxsize=16)
def _on_device(sample_rate: int, device: str) -> _Filters:
    with torch.inference_mode(False):  # so that the cached tensors serve in and outside of inference mode
        tensors = {
            name: torch.tensor(matrix, dtype=torch.float32, device=device)
            for name, matrix in _design(sample_rate).items()
        }
    return _Filters(order=len(tensors["from_state"]), **tensors)


@lru_cache(maxsize=16)
def _design(sample_rate: int) -> dict[str, np.ndarray]:
    """The matrices of `_Filters` in float64."""
    import scipy.linalg

    A, B, C, D = _balanced(*_state_space(sample_rate))
    order = len(A)
    powers = [np.eye(order)]
    for _ in range(_BLOCK):
        powers.append(powers[-1] @ A)
    impulse = np.concatenate([[D], [(C @ p @ B).item() for p in powers[: _BLOCK - 1]]])
    over_block = powers[_BLOCK]
    carried = [np.eye(order)]
    for _ in range(_GROUP):
        carried.append(carried[-1] @ over_block)
    # A state fades: after some groups less of it is left than float64 tells from 0.
    over_groups = [np.eye(order)]
    while np.abs(over_groups[-1] @ carried[_GROUP].T).max() > np.finfo(np.float64).eps:
        over_groups.append(over_groups[-1] @ carried[_GROUP].T)
    zero = np.zeros((order, order))
    within = [[carried[to - 1 - at] if to > at else zero for at in range(_GROUP)] for to in range(_GROUP)]
    return {
        "response": scipy.linalg.toeplitz(impulse, np.zeros(_BLOCK)).T,
        "from_state": np.concatenate([C @ p for p in powers[:_BLOCK]]).T,
        "to_state": np.concatenate([p @ B for p in powers[_BLOCK - 1 :: -1]], axis=1).T,
        "within_group": np.block(within).T,
        "to_group": np.concatenate(carried[_GROUP - 1 :: -1], axis=1).T,
        "over_groups": np.stack(over_groups),
        "into_blocks": np.concatenate(carried[:_GROUP]).T,
    }


def _state_space(sample_rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The two filters in series: s' = A s + B x, y = C s + D x."""
    import scipy.signal

    (A1, B1, C1, D1), (A2, B2, C2, D2) = (scipy.signal.tf2ss(b, a) for b, a in k_weighting_filters(sample_rate))
    A = np.block([[A1, np.zeros((len(A1), len(A2)))], [B2 @ C1, A2]])
    B = np.concatenate([B1, B2 @ D1])
    C = np.concatenate([D2 @ C1, C2], axis=1)
    return A, B, C, (D2 @ D1).item()


def _balanced(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The same filter with a state that is neither large nor small (Moore 1981, principal axis realisation).

    The high-pass has a double pole next to 1: in its direct form the state reaches 30,000 times the input, and the
    output is the small difference of large numbers, which float32 does not hold.
    """
    import scipy.linalg

    reach = scipy.linalg.solve_discrete_lyapunov(A, B @ B.T)
    observe = scipy.linalg.solve_discrete_lyapunov(A.T, C.T @ C)
    root = scipy.linalg.cholesky(reach, lower=True)
    U, squares, _ = np.linalg.svd(root.T @ observe @ root)
    scale = squares**0.25
    T = root @ U / scale  # old state = T @ new state
    inverse = (U * scale).T @ np.linalg.inv(root)
    return inverse @ A @ T, inverse @ B, C @ T, D
