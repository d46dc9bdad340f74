"""InfoNCE against a float64 loop, closed forms, and its gradient."""

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from mixstyle.pipeline.encoder.losses import chain_info_nce, info_nce, supervised_contrastive, two_axis_info_nce


def triple(batch: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, p, n = (torch.randn(batch, size, generator=generator) for _ in range(3))
    return a, p, n


def loop(a: np.ndarray, p: np.ndarray, n: np.ndarray, temperature: float) -> dict[str, float]:
    """The definition, candidate by candidate."""

    def cosine(x: np.ndarray, y: np.ndarray) -> float:
        return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))

    batch = len(a)
    losses, own, hard, other, hits = [], [], [], [], 0
    for i in range(batch):
        own.append(cosine(a[i], p[i]))
        hard.append(cosine(a[i], n[i]))
        rest = [cosine(a[i], x[j]) for j in range(batch) if j != i for x in (p, n)]
        other += rest
        candidates = [own[-1], hard[-1], *rest]
        assert len(candidates) == 2 * batch
        losses.append(-own[-1] / temperature + math.log(sum(math.exp(c / temperature) for c in candidates)))
        hits += own[-1] > max(candidates[1:])
    return {
        "loss": float(np.mean(losses)),
        "positive_similarity": float(np.mean(own)),
        "negative_similarity": float(np.mean(hard)),
        "other_similarity": float(np.mean(other)) if other else math.nan,
        "accuracy": hits / batch,
    }


@pytest.mark.parametrize(("batch", "size", "temperature"), [(1, 8, 0.1), (2, 3, 0.5), (7, 16, 0.1), (24, 768, 0.05)])
def test_equals_the_loop(batch: int, size: int, temperature: float) -> None:
    a, p, n = triple(batch, size)
    p = p + 0.5 * a  # some anchors find their positive, some do not
    expected = loop(a.double().numpy(), p.double().numpy(), n.double().numpy(), temperature)
    result = info_nce(a, p, n, temperature)
    for name, value in expected.items():
        # float32 rounding of cosines, times up to 1 / temperature = 20
        assert getattr(result, name).item() == pytest.approx(value, abs=1e-5, nan_ok=True), name


@pytest.mark.parametrize(("batch", "size", "temperature"), [(1, 8, 0.1), (5, 3, 0.5), (16, 64, 0.1)])
def test_two_axes_equal_the_definition_by_labels(batch: int, size: int, temperature: float) -> None:
    """Every clip has a song and a variant of it. Clips of equal song and variant are positives, all others negatives;
    a clip that has a positive is an anchor: -log(sum over positives / (sum over positives and negatives))."""
    a, p, n = triple(batch, size)
    p = p + 0.5 * a
    clips = np.concatenate([x.double().numpy() for x in (a, p, n)])
    clips /= np.linalg.norm(clips, axis=1, keepdims=True)
    labels = [(song, variant) for variant in (0, 0, 1) for song in range(batch)]
    losses = []
    for i, mine in enumerate(labels):
        terms = {j: math.exp(float(clips[i] @ clips[j]) / temperature) for j in range(len(clips)) if j != i}
        found = sum(value for j, value in terms.items() if labels[j] == mine)
        if found:
            losses.append(-math.log(found / sum(terms.values())))
    assert len(losses) == 2 * batch
    # float32 rounding of cosines, times 1 / temperature = 10
    assert two_axis_info_nce(a, p, n, temperature).loss.item() == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 24])
def test_equal_embeddings_give_the_log_of_all_candidates(batch: int) -> None:
    same = torch.ones(batch, 5)
    result = info_nce(same, same, same, 0.1)
    # cosines near 1 are rounded to 2^-24, divided by 0.1, and the loss is a difference of two: 1.2e-6
    assert result.loss.item() == pytest.approx(math.log(2 * batch), abs=2e-6)
    assert result.accuracy.item() == 0  # a tie is no hit


def test_orthogonal_songs_in_closed_form() -> None:
    batch, temperature = 4, 0.2
    axes = torch.eye(2 * batch)
    result = info_nce(axes[:batch], axes[:batch], axes[batch:], temperature)
    expected = -math.log(math.exp(1 / temperature) / (math.exp(1 / temperature) + 2 * batch - 1))
    # the loss of 0.046 is the difference of two numbers near 5, each rounded by 2^-22 = 2.4e-7: 1e-5 of it
    assert result.loss.item() == pytest.approx(expected, rel=1e-5)
    assert result.accuracy.item() == 1
    assert (result.positive_similarity.item(), result.other_similarity.item()) == (1, 0)


def test_length_of_the_embeddings_does_not_matter() -> None:
    a, p, n = triple(5, 16)
    scaled = info_nce(3 * a, 0.01 * p, 1000 * n, 0.1).loss
    torch.testing.assert_close(scaled, info_nce(a, p, n, 0.1).loss)


def test_the_order_of_a_batch_does_not_matter() -> None:
    a, p, n = triple(6, 16)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    torch.testing.assert_close(info_nce(a[order], p[order], n[order], 0.1).loss, info_nce(a, p, n, 0.1).loss)


def test_gradient_is_that_of_finite_differences_of_the_loop() -> None:
    a, p, n = (x.requires_grad_() for x in triple(3, 4))
    info_nce(a, p, n, 0.3).loss.backward()
    arrays = [x.detach().double().numpy() for x in (a, p, n)]
    for which, tensor in enumerate((a, p, n)):
        assert tensor.grad is not None
        for index in np.ndindex(3, 4):
            step = np.zeros((3, 4))
            step[index] = 1e-5
            ends = []
            for sign in (1, -1):
                moved = [x + sign * step if k == which else x for k, x in enumerate(arrays)]
                ends.append(loop(moved[0], moved[1], moved[2], 0.3)["loss"])
            slope = (ends[0] - ends[1]) / 2e-5
            # float32: 9e-8 with AVX-512, 1.1e-7 with AVX2; nine times that
            assert tensor.grad[index].item() == pytest.approx(slope, abs=1e-6)


def test_what_is_watched_carries_no_gradient() -> None:
    a, p, n = (x.requires_grad_() for x in triple(3, 4))
    result = info_nce(a, p, n, 0.3)
    assert result.loss.requires_grad
    watched = (result.positive_similarity, result.negative_similarity, result.other_similarity, result.accuracy)
    assert not any(x.requires_grad for x in watched)


def test_is_float32_under_autocast() -> None:
    a, p, n = triple(8, 64)
    plain = info_nce(a, p, n, 0.05).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = info_nce(a, p, n, 0.05).loss
    assert cast.dtype == torch.float32
    assert cast.item() == plain.item()
    half = info_nce(a.bfloat16(), p.bfloat16(), n.bfloat16(), 0.05).loss
    assert half.dtype == torch.float32


def test_a_collapsed_embedding_stays_finite() -> None:
    zeros = torch.zeros(3, 4, requires_grad=True)
    loss = info_nce(zeros, zeros, zeros, 0.1).loss
    loss.backward()
    assert loss.item() == pytest.approx(math.log(6))
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan])
def test_refuses_a_temperature_that_is_not_above_0(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        info_nce(*triple(2, 4), temperature)


@pytest.mark.parametrize(
    "shapes", [((2, 4), (3, 4), (2, 4)), ((2, 4), (2, 4), (2, 5)), ((4,), (4,), (4,)), ((0, 4),) * 3]
)
def test_refuses_shapes_that_differ(shapes: tuple[tuple[int, ...], ...]) -> None:
    a, p, n = (torch.ones(s) for s in shapes)
    with pytest.raises(ValueError, match=re.escape(", ".join(str(list(shape)) for shape in shapes))):
        info_nce(a, p, n, 0.1)


@pytest.mark.parametrize(("batch", "size", "temperature"), [(2, 3, 0.5), (3, 4, 0.1), (7, 16, 0.2)])
def test_a_ring_of_chains_equals_the_loop(batch: int, size: int, temperature: float) -> None:
    a, p, n = (x.double().numpy() for x in triple(batch, size))
    clips = [(i, x / np.linalg.norm(x)) for i, x in [*enumerate(a), *enumerate(p)]]
    clips += [((i + 1) % batch, x / np.linalg.norm(x)) for i, x in enumerate(n)]
    losses = []
    for me, (chain, x) in enumerate(clips):
        rest = [(other, float(x @ y)) for place, (other, y) in enumerate(clips) if place != me]
        total = math.log(sum(math.exp(c / temperature) for _, c in rest))
        own = [c / temperature - total for other, c in rest if other == chain]
        assert len(own) == 2
        losses.append(-float(np.mean(own)))
    own, hard, other, hits = [], [], [], 0
    for i, (chain, x) in enumerate(clips[:batch]):
        candidates = [(other_chain, float(x @ y)) for other_chain, y in clips[batch:]]
        positives = [c for other_chain, c in candidates if other_chain == chain]
        rivals = [c for other_chain, c in candidates if other_chain != chain]
        assert len(positives) == 2
        own += positives
        hard.append(float(x @ clips[2 * batch + i][1]))
        other += rivals
        hits += max(positives) > max(rivals)
    found = chain_info_nce(*triple(batch, size), temperature)
    expected = {
        "loss": np.mean(losses),
        "positive_similarity": np.mean(own),
        "negative_similarity": np.mean(hard),
        "other_similarity": (np.sum(other) - np.sum(hard)) / (len(other) - batch),
        "accuracy": hits / batch,
    }
    for name, value in expected.items():
        # float32 rounding of cosines, times up to 1 / temperature = 10
        assert getattr(found, name).item() == pytest.approx(value, abs=1e-5), name


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_a_ring_of_perfect_embeddings_finds_every_positive(batch: int) -> None:
    """Clips of a chain lie on one axis; each anchor has its positive and the negative of the item before it there."""
    axes = torch.eye(batch)
    result = chain_info_nce(axes, axes, axes.roll(-1, 0), 0.1)
    assert result.accuracy.item() == 1
    assert result.positive_similarity.item() == 1
    assert (result.negative_similarity.item(), result.other_similarity.item()) == (0, 0)
    # each clip: two positives at e^10, 3 (B - 1) clips of other chains at e^0
    expected = -10 + math.log(2 * math.exp(10) + 3 * (batch - 1))
    assert result.loss.item() == pytest.approx(expected, abs=1e-5)


def test_a_ring_counts_the_neighbour_of_another_chain_as_wrong() -> None:
    axes = torch.eye(4)
    anchor, positive = axes.clone(), axes.clone()
    anchor[0] = axes[2]  # its nearest candidates are now of chain 2
    assert chain_info_nce(anchor, positive, axes.roll(-1, 0), 0.1).accuracy.item() == 0.75


def test_a_ring_needs_two() -> None:
    assert chain_info_nce(*triple(2, 4), 0.1).loss.isfinite()
    with pytest.raises(ValueError):
        chain_info_nce(*triple(1, 4), 0.1)


def test_a_ring_pulls_every_clip_towards_its_chain() -> None:
    """Descending the loss sorts clips by chain, whatever their content."""
    a, p, n = (x.requires_grad_() for x in triple(5, 8))
    optimizer = torch.optim.SGD([a, p, n], lr=3.0)
    for _ in range(300):
        optimizer.zero_grad()
        chain_info_nce(a, p, n, 0.2).loss.backward()
        optimizer.step()
    a, p, n = (torch.nn.functional.normalize(x.detach(), dim=-1) for x in (a, p, n))
    assert (a * p).sum(-1).min() > 0.95
    assert (a * n.roll(1, 0)).sum(-1).min() > 0.95
    assert (a * n).sum(-1).max() < 0.5


def grid_loop(x: np.ndarray, groups: list[int], contents: list[int], temperature: float) -> dict[str, float]:
    """The supervised contrastive loss by its definition, anchor by anchor."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    losses, alike, hard, other, found = [], [], [], [], 0
    for i in range(len(x)):
        rest = [j for j in range(len(x)) if j != i]
        cosine = {j: float(unit[i] @ unit[j]) for j in rest}
        positives = [j for j in rest if groups[j] == groups[i]]
        hard += [cosine[j] for j in rest if contents[j] == contents[i] and groups[j] != groups[i]]
        other += [cosine[j] for j in rest if contents[j] != contents[i] and groups[j] != groups[i]]
        if not positives:
            continue
        total = sum(math.exp(cosine[j] / temperature) for j in rest)
        losses.append(-np.mean([math.log(math.exp(cosine[j] / temperature) / total) for j in positives]))
        alike += [cosine[j] for j in positives]
        found += max(cosine[j] for j in positives) > max(cosine[j] for j in rest if j not in positives)
    return {
        "loss": float(np.mean(losses)),
        "positive_similarity": float(np.mean(alike)),
        "negative_similarity": float(np.mean(hard)),
        "other_similarity": float(np.mean(other)),
        "accuracy": found / len(losses),
    }


def test_groups_of_a_bank_give_the_supervised_contrastive_loss() -> None:
    groups, contents = [0, 0, 0, 1, 1, 1, 2, 3, 3], [0, 1, 2, 0, 1, 2, 0, 7, 8]  # group 2 is a single clip
    x = torch.randn(9, 16, generator=torch.Generator().manual_seed(0)) + torch.eye(4)[groups].repeat(1, 4)
    result = supervised_contrastive(x, torch.tensor(groups), torch.tensor(contents), 0.1)
    for name, value in grid_loop(x.double().numpy(), groups, contents, 0.1).items():
        # float32 rounding of cosines, divided by the temperature
        assert getattr(result, name).item() == pytest.approx(value, abs=1e-5), name


def test_a_ring_is_a_grid_of_three_clips_a_chain() -> None:
    a, p, n = triple(5, 8)
    chain = torch.arange(5)
    groups = torch.cat([chain, chain, (chain + 1) % 5])
    contents = torch.cat([chain, chain + 5, chain])
    ring = chain_info_nce(a, p, n, 0.1).loss
    grid = supervised_contrastive(torch.cat([a, p, n]), groups, contents, 0.1).loss
    assert grid.item() == pytest.approx(ring.item(), abs=1e-6)  # one sum in another order


@pytest.mark.parametrize("groups", [torch.arange(4), torch.zeros(3)])
def test_a_grid_without_pairs_or_of_other_length_is_refused(groups: Tensor) -> None:
    with pytest.raises(ValueError, match="group"):
        supervised_contrastive(torch.randn(4, 3), groups, torch.arange(4), 0.1)
