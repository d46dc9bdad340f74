"""What TensorBoard shows beside the losses: a map of embeddings, and how songs of the validation split find each other.

Alignment and uniformity are those of Wang, Isola: "Understanding Contrastive Representation Learning through Alignment
and Uniformity on the Hypersphere", ICML 2020, with alpha = 2 and t = 2.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.encoder.embed_clips import embed_clips
from mixstyle.pipeline.encoder.encoder import Encoder
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.pipeline.retrieval import hits, principal_components, ranks
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.train.data import ROLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard.writer import SummaryWriter

HISTOGRAM_EVERY = 50
"""Steps between histograms of similarities."""
MOST_SONGS = 300
"""Of the validation split, how many are mapped."""
BATCH_CLIPS = 8


def alignment_and_uniformity(embeddings: Tensor) -> dict[str, float]:
    """Alignment of anchors [3 B, E] to their positives, and uniformity of the anchors; NaN for a single one."""
    anchor, positive, _ = F.normalize(embeddings.float(), dim=-1).chunk(ROLES)
    distances = torch.pdist(anchor).square()
    return {
        "embedding/alignment": (anchor - positive).square().sum(1).mean().item(),
        "embedding/uniformity": (-2 * distances).exp().mean().log().item(),
    }


def similarities(embeddings: Tensor) -> dict[str, Tensor]:
    """Cosines of anchors to their positives, to their own negatives, and to those of others."""
    anchor, positive, negative = F.normalize(embeddings.float(), dim=-1).chunk(ROLES)
    others = ~torch.eye(len(anchor), dtype=torch.bool, device=anchor.device)
    return {
        "similarity/positive": (anchor * positive).sum(1),
        "similarity/own_negative": (anchor * negative).sum(1),
        "similarity/other_positives": (anchor @ positive.T)[others],
        "similarity/other_negatives": (anchor @ negative.T)[others],
    }


def watch_step(board: "SummaryWriter", embeddings: Tensor, step: int) -> None:
    """Writes a step's alignment and uniformity, and now and then histograms of its similarities."""
    for name, value in alignment_and_uniformity(embeddings).items():
        board.add_scalar(name, value, step)
    if step % HISTOGRAM_EVERY == 0 or step == 1:
        for name, values in similarities(embeddings).items():
            if len(values):
                board.add_histogram(name, values.cpu(), step)


def watch_songs(
    board: "SummaryWriter",
    encoder: Encoder,
    mel: StemMel,
    cache: StemCache,
    store: FeatureStore,
    step: int,
    what: str = "song",
) -> None:
    """Writes the validation songs' retrieval (query the last clip, pool the first ones) and a map of both.

    what: the tracks of the cache; `group` in a bank, where the clips of a track are of several songs.
    """
    songs = cache.tracks_with_pairs("validation")[:MOST_SONGS]
    if len(songs) < 2:
        return
    clips = [song.clips[place] for place in (0, -1) for song in songs]
    descriptors = torch.from_numpy(store.rows([clip.row for clip in clips]))
    device = encoder.projection.weight.device
    found = []
    encoder.eval()
    for start in range(0, len(clips), BATCH_CLIPS):
        stems = np.stack([cache.read_clip(clip) for clip in clips[start : start + BATCH_CLIPS]])
        conditions = descriptors[start : start + BATCH_CLIPS].to(device)
        of_clips = embed_clips(encoder, mel, torch.from_numpy(stems).to(device), conditions, describe=describe)
        found.append(of_clips.cpu().numpy())
    embeddings = np.concatenate(found)
    pool, queries = np.split(embeddings, 2)
    rank = ranks(queries, pool, np.arange(len(songs)))
    for k in (1, 5):
        board.add_scalar(f"validation/{what}_top_{k}", float(hits(rank, k).mean()), step)
    points, share = principal_components(embeddings)
    board.add_figure("validation/map", _map(points, share, len(songs)), step)


def _map(points: np.ndarray, share: list[float], songs: int) -> "Figure":
    from matplotlib.figure import Figure  # takes a while, and most runs start without a map

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    for place in range(songs):
        pair = points[[place, place + songs]]
        axes.plot(pair[:, 0], pair[:, 1], "o-", linewidth=0.8, markersize=5)
    axes.set_title("Validation songs: first and last clip joined")
    axes.set_xlabel(f"first principal component ({share[0]:.0%} of the variance)")
    axes.set_ylabel(f"second ({share[1]:.0%})")
    return figure
