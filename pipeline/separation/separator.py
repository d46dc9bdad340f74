"""Separates music into stems, whole tracks or clips out of them, with a network of any architecture."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.finite import first_not_finite
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.separation.architectures.base import SeparationNetwork, TakesLstmKernel
from mixstyle.pipeline.separation.architectures.registry import architectures
from mixstyle.pipeline.separation.chunks import ChunkGrid, ClipRequest, OverlapAdd
from mixstyle.pipeline.separation.executor import BatchExecutor, separate_all
from mixstyle.pipeline.separation.kernels.lstm import LstmKernel
from mixstyle.pipeline.separation.separator_checkpoint import (
    SeparatorFile,
    digest,
    read_separator_config,
    read_state_dict,
)

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Separator:
    """A loaded separator. Stems come out in the order of `STEMS`; `load_separator` makes one.

    weights: their digest. name: what people call it, the checkpoint's file name without its suffix.
    """

    def __init__(
        self,
        network: SeparationNetwork,
        file: SeparatorFile,
        weights: str,
        device: torch.device,
        precision: Precision,
        batch: int,
        name: str = "",
    ) -> None:
        self.network = network.module.to(device)
        self.file, self.device, self.precision, self.batch_chunks = file, device, precision, batch
        self.name, self.weights = name, weights
        self._order = [file.instruments.index(stem) for stem in STEMS]
        self._form = network.form
        self.fingerprint = self.fingerprint_at(file.num_overlap)
        """Hex of the weights and every setting that shapes the stems; not of device or precision."""
        self._kernel: LstmKernel | None = None
        self.lstm_kernel = ""
        """What its LSTMs run on, where that is not torch's own: the name of a `kernels.lstm.Variant`."""
        self.description = (
            f"{network.description}, {network.parameters / 1e6:.2f} M parameters, chunks of "
            f"{file.chunk / SAMPLE_RATE:.1f} s, num_overlap {file.num_overlap}"
        )

    def __repr__(self) -> str:
        return f"Separator({self.name!r}, {self.description}, {self.device})"

    def fingerprint_at(self, num_overlap: int) -> str:
        """The fingerprint that this network has at another overlap: tells the same network from another one."""
        rules = {**asdict(self.file), "num_overlap": num_overlap, "form": self._form, "weights": self.weights}
        if self.file.architecture == "scnet":
            del rules["architecture"]  # the first of them: its fingerprints are older than the registry
        return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:16]

    def use_lstm_kernel(self, kernel: LstmKernel | None) -> bool:
        """Has a kernel compute the network's LSTMs, or torch again (None); False where the kernel does not take them.

        The last bits of the stems change with it, and `lstm_kernel` tells of it.
        """
        network, on_cpu = self.network, self.device.type == "cpu"
        if kernel is not self._kernel:  # else its weights are ready
            taken = on_cpu and isinstance(network, TakesLstmKernel) and network.use_lstm_kernel(kernel)
            self._kernel, self.lstm_kernel = kernel, kernel.variant.name if kernel and taken else ""
        return bool(self.lstm_kernel)

    @property
    def chunk_frames(self) -> int:
        return self.file.chunk

    @property
    def needs_whole_track(self) -> bool:
        """Whether a clip depends on all of its track, as `inference.normalize` makes it."""
        return self.file.normalize

    def grid(self, track_frames: int) -> ChunkGrid:
        return ChunkGrid(self.file.chunk, self.file.num_overlap, track_frames)

    def clip_span(self, track_frames: int, start: int, stop: int) -> tuple[int, int]:
        """Frames of the track (half-open) that `separate_clips` needs for the clip from start to stop."""
        if self.needs_whole_track:
            return 0, track_frames
        return self.grid(track_frames).span(start, stop)

    def separate(self, mixtures: Sequence[Tensor]) -> list[Tensor]:
        """Separates whole mixtures [2, T_i] at 44.1 kHz into stems [4, 2, T_i].

        Raises MixstyleError for audio that is not stereo, empty or not finite.
        """
        return self.separate_clips([ClipRequest.whole(mixture) for mixture in mixtures])

    def separate_clips(self, requests: Sequence[ClipRequest]) -> list[Tensor]:
        """Separates clips [4, 2, stop - start]; chunks of several share batches, in the order given.

        On a CPU, as many chunks at once as torch may use threads, with a thread each.
        """
        chunks = sum(len(self.grid(r.track_frames).touching(r.start, r.stop)) for r in requests)
        streams, threads = 2, torch.get_num_threads()
        if self.device.type == "cpu":
            streams = threads if -(-chunks // self.batch_chunks) >= threads else 1
            threads //= streams
        with BatchExecutor(self, streams, threads, self.batch_chunks) as executor:
            return separate_all(executor, requests)

    @torch.inference_mode()
    def run_network(self, chunks: Tensor) -> Tensor:
        """Chunks [B, 2, chunk] -> stems [B, 4, 2, chunk] on the CPU, in the order of `STEMS`, fp32.

        May be called from several threads at once; on a GPU each should have a stream of its own.
        """
        if self.device.type != "cuda":
            return self.network(chunks)[:, self._order]
        # From pinned memory to pinned memory, so that copies wait for this stream alone.
        stems = self.network(chunks.pin_memory().to(self.device, non_blocking=True))[:, self._order]
        out = torch.empty(stems.shape, pin_memory=True).copy_(stems, non_blocking=True)
        torch.cuda.current_stream(self.device).synchronize()
        return out

    def prepare(self, request: ClipRequest) -> tuple[Tensor, float, float]:
        """The request's audio as the network wants it, and the mean and deviation that its stems are to get back.

        Raises MixstyleError for audio that is not stereo or not finite, ValueError for too little of it.
        """
        audio = request.audio
        if audio.ndim != 2 or audio.shape[0] != 2:
            raise MixstyleError(
                f"audio to separate should be [2, T], not {list(audio.shape)}; repeat a mono channel", code="bad-audio"
            )
        if not torch.isfinite(audio).all():
            raise MixstyleError("audio to separate holds NaN or infinite samples", code="bad-audio")
        audio = audio.detach().to("cpu", torch.float32)
        first, last = self.clip_span(request.track_frames, request.start, request.stop)
        if request.span_start > first or request.span_start + audio.shape[1] < last:
            raise ValueError(f"the clip needs frames {first} to {last}, more than its audio holds")
        if not self.file.normalize:
            return audio, 0.0, 1.0
        mono = audio.mean(0)
        mean, std = float(mono.mean()), float(mono.std(correction=0))
        std = std if std > 0 else 1.0  # digital silence stays what it is
        return (audio - mean) / std, mean, std

    def overlap_add(self, request: ClipRequest) -> OverlapAdd:
        """What gathers the chunks of a clip."""
        return OverlapAdd(self.grid(request.track_frames), request.start, request.stop, (len(STEMS), 2))


def load_separator(
    config_path: str | Path,
    checkpoint_path: str | Path,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    *,
    num_overlap: int | None = None,
    batch_chunks: int = 1,
) -> Separator:
    """Loads a separator from MSST's YAML and a checkpoint (.ckpt, .pt, .th or .safetensors).

    Its network is one of `architectures.registry`, and the YAML tells which.

    num_overlap: instead of the YAML's. batch_chunks: chunks that go through the network together.
    Raises MixstyleError, naming the file, where the two do not fit or cannot be loaded.
    """
    file = read_separator_config(config_path)
    if num_overlap is not None:
        file = replace(file, num_overlap=num_overlap)
    ChunkGrid(file.chunk, file.num_overlap, file.chunk)  # refuses what cannot be cut before any work
    if isinstance(device, str) or device.type == "cuda":
        device = resolve_device(str(device))  # with a number, which streams need
    if precision not in DTYPES:
        raise MixstyleError(f"precision={precision!r} should be fp32, bf16 or fp16", code="bad-option")
    if precision == "fp16" and device.type == "cpu":
        raise MixstyleError("precision=fp16 needs a GPU; use bf16 or fp32 on a CPU", code="no-device")
    if batch_chunks < 1:
        raise MixstyleError(f"batch_chunks={batch_chunks} should be 1 or more", code="bad-option")
    state = {k: v.float() if v.is_floating_point() else v for k, v in read_state_dict(checkpoint_path).items()}
    try:
        network = architectures()[file.architecture].build(file.model, state, DTYPES[precision])
    except MixstyleError as error:
        raise MixstyleError(f"{checkpoint_path}: does not fit {config_path}: {error}", code=error.code) from error
    if wrong := first_not_finite(state):
        raise MixstyleError(f"{checkpoint_path}: its weights hold NaN or infinite values ({wrong})", code="not-finite")
    name = Path(checkpoint_path).stem
    return Separator(network, file, digest(state), device, precision, batch_chunks, name)
