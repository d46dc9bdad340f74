"""From stems to embeddings: the one way from clips to what the encoder says of them, and from clips to their song.

clip = encoder(mel(g stems), describe(g stems)),    song = u(mean over clips of u(clip)),    u(x) = x / |x|

where g brings the clip to the encoder's input loudness, if it has one, and is 1 otherwise.

An encoder that was trained on short clips learns more from several of them than from a long one. With
`EncoderConfig.part_s`, a clip of T seconds is cut into n = round(T / part_s) equal parts, each with descriptors of its
own, and where n is 2 or more

clip = u(mean over parts of u(encoder(mel(g part), describe(g part)))).

Silent parts do not count, unless all are silent.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.compute import Describe, describe
from mixstyle.pipeline.encoder.encoder import Encoder
from mixstyle.pipeline.encoder.levels import gains_db, is_heard, levelled, levelled_descriptors

SHORTEST_PART = 0.75
"""Of `EncoderConfig.part_s`: half of a clip of 1.5 times that length, the shortest that is cut."""
Mel = Callable[[Tensor], Tensor]
"""Stems [B, 4, 2, T] to log-mel spectrograms; a `StemMel`."""


def embed_clips(
    encoder: Encoder, mel: Mel, stems: Tensor, descriptors: Tensor | None = None, *, describe: Describe = describe
) -> Tensor:
    """Embeddings [B, E] float32 of clips' stems [B, 4, 2, T], as the encoder gives them; on the stems' device.

    descriptors: [B, D] of these clips where they are known; not used for clips that are embedded in parts. describe:
    what measures them where they are not known, and those of parts. Raises MixstyleError ("bad-audio") for clips too
    short for the encoder.
    """
    return embed_with_each([encoder], mel, stems, descriptors, describe=describe)[0]


@torch.inference_mode()
def embed_with_each(
    encoders: Sequence[Encoder],
    mel: Mel,
    stems: Tensor,
    descriptors: Tensor | None = None,
    *,
    describe: Describe = describe,
) -> list[Tensor]:
    """What `embed_clips` gives for each of several encoders of one mel and input loudness; the mel is computed once.

    Raises ValueError for encoders of different input loudness or length of parts.
    """
    ways = {(encoder.config.input_lufs, encoder.config.part_s) for encoder in encoders}
    if len(ways) > 1:
        raise ValueError(f"encoders of different input loudness or length of parts: {ways}")
    target, part_s = ways.pop()
    count = parts_of(stems.shape[-1], part_s)
    if count == 1:
        return _whole(encoders, mel, stems, descriptors, target, describe)
    parts = _cut(stems, count)
    descriptors = describe(parts)
    heard = is_heard(descriptors).unflatten(0, (-1, count)).float()
    heard[heard.sum(1) == 0] = 1.0
    found = _whole(encoders, mel, parts, descriptors, target, describe)
    each = [F.normalize(one, dim=-1).unflatten(0, (-1, count)) for one in found]
    return [F.normalize((heard[..., None] * one).sum(1), dim=-1) for one in each]


def parts_of(frames: int, part_s: float | None) -> int:
    """In how many equal parts a clip of so many samples is embedded; part_s as `EncoderConfig.part_s`.

    >>> parts_of(441_000, 3.0), parts_of(176_400, 3.0), parts_of(441_000, None)
    (3, 1, 1)
    """
    return 1 if part_s is None else max(1, round(frames / SAMPLE_RATE / part_s))


def _cut(stems: Tensor, count: int) -> Tensor:
    """Parts [B * count, 4, 2, T // count] of clips [B, 4, 2, T], a clip's one after another."""
    length = stems.shape[-1] // count
    return stems[..., : count * length].unflatten(-1, (count, length)).movedim(-2, 1).flatten(0, 1)


def _whole(
    encoders: Sequence[Encoder],
    mel: Mel,
    stems: Tensor,
    descriptors: Tensor | None,
    target: float | None,
    describe: Describe,
) -> list[Tensor]:
    """Embeddings [B, E] by each encoder of clips that are not cut. target: the input loudness in LUFS."""
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
