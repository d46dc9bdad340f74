"""From stems to embeddings: the one way from clips to what the encoder says of them, and from clips to their song.

clip = encoder(mel(g stems), describe(g stems)),    song = u(mean over clips of u(clip)),    u(x) = x / |x|

where g brings the clip to the encoder's input loudness, if it has one, and is 1 otherwise.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.encoder.encoder import Encoder
from mixstyle.pipeline.encoder.levels import gains_db, levelled, levelled_descriptors

Mel = Callable[[Tensor], Tensor]
"""Stems [B, 4, 2, T] to log-mel spectrograms; a `StemMel`."""


def embed_clips(encoder: Encoder, mel: Mel, stems: Tensor, descriptors: Tensor | None = None) -> Tensor:
    """Embeddings [B, E] float32 of clips' stems [B, 4, 2, T], as the encoder gives them; on the stems' device.

    descriptors: [B, D] of these clips where they are known. Raises MixstyleError ("bad-audio") for clips too short for
    the encoder.
    """
    return embed_with_each([encoder], mel, stems, descriptors)[0]


@torch.inference_mode()
def embed_with_each(
    encoders: Sequence[Encoder], mel: Mel, stems: Tensor, descriptors: Tensor | None = None
) -> list[Tensor]:
    """What `embed_clips` gives for each of several encoders of one mel and input loudness; the mel is computed once.

    Raises ValueError for encoders of different input loudness.
    """
    targets = {encoder.config.input_lufs for encoder in encoders}
    if len(targets) > 1:
        raise ValueError(f"encoders of different input loudness: {targets}")
    target = targets.pop()
    if target is not None:
        descriptors = describe(stems) if descriptors is None else descriptors
        gains = gains_db(descriptors, target)
        stems, descriptors = levelled(stems, gains), levelled_descriptors(descriptors, gains)
    spectrograms = mel(stems)
    frames, needed = spectrograms.shape[-1], max(encoder.config.min_frames for encoder in encoders)
    if frames < needed:
        raise MixstyleError(f"too short: {frames} mel frames, the encoder needs {needed}", code="bad-audio")
    conditions = describe(stems) if descriptors is None else descriptors
    return [encoder(spectrograms, conditions).float() for encoder in encoders]


def song_embedding(clips: Tensor) -> tuple[Tensor, Tensor]:
    """A song's embedding [E] of unit length from its clips' [n, E], and these brought to unit length [n, E]."""
    each = F.normalize(clips, dim=-1)
    return F.normalize(each.mean(0), dim=-1), each
