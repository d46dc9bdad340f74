"""SCNet's residual LSTMs, norm and linear layer included, each way that was tried, at the sizes of real separators.

    uv run python benchmarks/lstm.py                        # SCNet small
    uv run python benchmarks/lstm.py --size tiny --size xl  # the shipped separator; the masked XL IHF
    uv run python benchmarks/lstm.py --compiled             # `torch.compile` of one step, too (a minute of compiling)
    uv run python benchmarks/lstm.py --chunk                # a whole chunk of the network instead, by precision

Milliseconds a layer on one thread: the least of the rounds, by the thread's own clock, so that what else runs on the
machine counts little. The last column tells how far above its difference to float32 in dB what the layer adds is.
"""

import copy
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from plain_scnet import as_published
from rich.console import Console
from rich.table import Table
from separation import SIZES as NETWORKS
from separation import processor
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.pipeline.core.memory import keep_freed_memory
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.separation.architectures.scnet_inference import InferenceSCNet
from mixstyle.pipeline.separation.architectures.scnet_network import SCNet, SCNetConfig, form_of
from mixstyle.pipeline.separation.kernels.lstm import VARIANTS, LstmKernel, ResidualLstm
from mixstyle.pipeline.separation.separator_checkpoint import read_separator_config, read_state_dict
from mixstyle.stages.common.assets import SEPARATOR, SEPARATOR_CONFIG, shipped
from mixstyle.stages.separate.lstm_kernels import lstm_kernel

SIZES = {"tiny": (22, 174, 64), "small": (57, 476, 128), "xl": (156, 476, 256)}
"""Frequencies, frames and channels of the dual path; every second layer has the spectrum of the frames: half as many
and twice the channels."""
Way = Callable[[Tensor], Tensor]
"""x [F, T, C] -> x and what the layer adds to it."""


def main(
    size: Annotated[list[str] | None, typer.Option(help="tiny, small, xl; may be repeated.")] = None,
    rounds: int = 5,
    compiled: Annotated[bool, typer.Option(help="torch.compile of one step, too.")] = False,
    chunk: Annotated[bool, typer.Option(help="A whole chunk instead.")] = False,
    steps: Annotated[int, typer.Option(help="Steps at most, of long LSTMs; times are extrapolated.")] = 64,
) -> None:
    """Measures and prints a table for each size."""
    torch.set_num_threads(1)
    console = Console(width=130)
    console.print(f"{processor()}, 1 thread, torch {torch.__version__}, least of {rounds} rounds")
    for name in size or ["small"]:
        if chunk:
            print_chunk(console, name, rounds)
            continue
        table = Table("layer", "way", title=f"SCNet {name}")
        for column in ("ms", "GFLOP/s", "against torch's bf16", "dB to float32"):
            table.add_column(column, justify="right")
        F_, T, C = SIZES[name]
        for half, (frames, channels) in enumerate([(T, C), (T // 2 + 1, 2 * C)]):
            for axis, (length, batch) in {"frequency": (F_, frames), "time": (frames, F_)}.items():
                layer = Layer(channels, min(length, steps), batch, over_time=axis == "time")
                part = length / min(length, steps)
                measure(table, f"{length} steps of {batch} x {channels}, {axis}", layer, rounds, part, compiled)
            table.add_section() if half == 0 else None
        console.print(table)


class Layer:
    """A layer with random weights, and its ways. In float32 and, with the same weights rounded, in bfloat16."""

    def __init__(self, channels: int, steps: int, batch: int, over_time: bool) -> None:
        torch.manual_seed(0)
        self.over_time = over_time
        self.lstm, self.linear = nn.LSTM(channels, channels, bidirectional=True), nn.Linear(2 * channels, channels)
        self.lstm_16, self.linear_16 = copy.deepcopy(self.lstm).bfloat16(), copy.deepcopy(self.linear).bfloat16()
        self.x = torch.randn(*((batch, steps) if over_time else (steps, batch)), channels)
        self.flops = 2 * steps * batch * channels * (2 * 4 * 2 * channels + 2 * channels)

    def ways(self, compiled: bool) -> dict[str, Way]:
        """By name; the first is the one that the others are compared with in dB, the second the one in time."""
        step = torch.compile(_step, mode="max-autotune-no-cudagraphs") if compiled else None
        found: dict[str, Way] = {
            "torch, fp32": lambda x: self.around(x, torch.float32, lambda rows: self.linear(self.lstm(rows)[0])),
            "torch, bf16": lambda x: self.around(x, torch.bfloat16, lambda rows: self.linear_16(self.lstm_16(rows)[0])),
            "a step as tensor operations, bf16": lambda x: self.around(x, torch.bfloat16, self.by_steps(_step)),
        }
        if step is not None:
            found["a step by torch.compile, bf16"] = lambda x: self.around(x, torch.bfloat16, self.by_steps(step))
        for kernel in kernels():
            found[f"the kernel, {kernel.variant.name}"] = self.on_kernel(kernel)
        return found

    def on_kernel(self, kernel: LstmKernel) -> Way:
        """By a kernel, from and to [F, T, C]."""
        residual = ResidualLstm(self.lstm_16, self.linear_16, 1e-5, kernel)
        return lambda x: residual.added_to(x.clone()[None], over_time=self.over_time)[0]

    def around(self, x: Tensor, dtype: torch.dtype, layers: Way) -> Tensor:
        """Norm, precision and axes around the LSTM and the linear layer, as `scnet_inference` has them."""
        rows = F.layer_norm(x, x.shape).to(dtype)
        if not self.over_time:
            return x.clone().add_(layers(rows))
        return x.clone().add_(layers(rows.transpose(0, 1).contiguous()).transpose(0, 1))

    def by_steps(self, step: Callable[..., tuple[Tensor, Tensor]]) -> Way:
        """Input products of all steps at once, then a step at a time, in one direction and then in the other."""

        def run(rows: Tensor) -> Tensor:
            H = self.lstm.hidden_size
            out = rows.new_empty(*rows.shape[:2], 2 * H)
            for half, end in enumerate(("", "_reverse")):
                names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                of_input, of_state, bias, more = (getattr(self.lstm_16, f"{name}_l0{end}") for name in names)
                inputs, weights = F.linear(rows, of_input, bias + more), of_state.t().contiguous()
                state, cell = rows.new_zeros(rows.shape[1], H), torch.zeros(rows.shape[1], H)
                for t in reversed(range(len(rows))) if half else range(len(rows)):
                    state, cell = step(inputs[t], state, cell, weights)
                    out[t, :, half * H : (half + 1) * H] = state
            return self.linear_16(out)

        return run


@torch.inference_mode()
def print_chunk(console: Console, name: str, rounds: int) -> None:
    """A table of one chunk of noise: the published layers, and ours by precision and LSTMs."""
    keep_freed_memory()
    network, frames = network_of(name)
    ours = {dtype: InferenceSCNet(network, dtype) for dtype in (torch.float32, torch.bfloat16)}
    ways: dict[str, nn.Module] = {
        "published layers, fp32": as_published(copy.deepcopy(network)),
        "ours, fp32": ours[torch.float32],
        "ours, bf16, torch's LSTMs": ours[torch.bfloat16],
    }
    for kernel in kernels():
        on_kernel = InferenceSCNet(network, torch.bfloat16)
        if on_kernel.use_lstm_kernel(kernel):
            ways[f"ours, bf16, the kernel {kernel.variant.name}"] = on_kernel
    x = 0.1 * torch.randn(1, 2, frames, generator=torch.Generator().manual_seed(0))
    short, least_s, found = x[..., : frames // 8], dict.fromkeys(ways, float("inf")), dict[str, Tensor]()
    for way in ways.values():
        way(short)  # warms up
    for _ in range(rounds):
        for way, run in ways.items():
            start = time.thread_time()
            found[way] = run(x)
            least_s[way] = min(least_s[way], time.thread_time() - start)
    table = Table("way", title=f"SCNet {name}: a chunk of {frames / SAMPLE_RATE:.0f} s")
    for column in ("s", "against the first", "dB to the first"):
        table.add_column(column, justify="right")
    first = next(iter(ways))
    for way, seconds in least_s.items():
        noise = (found[way] - found[first]).square().sum() / found[first].square().sum()
        told = "" if way == first else f"{-10 * noise.log10():.1f}"
        table.add_row(way, f"{seconds:.3f}", f"{least_s[first] / seconds:.2f}", told)
    console.print(table)


def kernels() -> list[LstmKernel]:
    """Those that this machine can run."""
    return [kernel for variant in VARIANTS if (kernel := lstm_kernel(variant.name)) is not None]


def network_of(name: str) -> tuple[SCNet, int]:
    """The network, with random weights but for the shipped one, and how many frames a chunk has."""
    if name == "tiny":
        state, file = read_state_dict(shipped(SEPARATOR)), read_separator_config(shipped(SEPARATOR_CONFIG))
        network = SCNet(file.model, form_of(state))
        network.load_state_dict(state)
        return network.eval(), file.chunk
    torch.manual_seed(0)
    size = NETWORKS[name]
    return SCNet(SCNetConfig.from_mapping(size.model), "masked" if size.masked else "plain").eval(), 11 * SAMPLE_RATE


def _step(inputs: Tensor, state: Tensor, cell: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = torch.addmm(inputs, state, weights).chunk(4, dim=1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return (torch.sigmoid(o) * torch.tanh(cell)).bfloat16(), cell


@torch.inference_mode()
def measure(table: Table, name: str, layer: Layer, rounds: int, part: float, compiled: bool) -> None:
    """Rows of one layer. part: by what times are multiplied."""
    ways = layer.ways(compiled)
    found = {way: run(layer.x) - layer.x for way, run in ways.items()}  # warms up
    least_s = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for way, run in ways.items():
            start = time.thread_time()
            run(layer.x)
            least_s[way] = min(least_s[way], time.thread_time() - start)
    wanted = found["torch, fp32"]
    for way, seconds in least_s.items():
        noise = (found[way] - wanted).square().sum() / wanted.square().sum()
        table.add_row(
            name if way == "torch, fp32" else "",
            way,
            f"{1e3 * part * seconds:.1f}",
            f"{layer.flops / seconds / 1e9:.0f}",
            f"{least_s['torch, bf16'] / seconds:.2f}",
            "" if way == "torch, fp32" else f"{-10 * noise.log10():.1f}",
        )


if __name__ == "__main__":
    typer.run(main)
