"""Training on several machines, as docs/training.md starts it: two nodes of torchrun on loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.ports import free_ports
from helpers.small_cache import make_cache
from helpers.training import CLIP_S, profile, settings_of

from mixstyle.cache.models.checkpoints import load_checkpoint
from mixstyle.stages.features.stage import features
from mixstyle.stages.train.stage import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

NODES = 2


def test_two_nodes_train_what_two_processes_of_one_do(tmp_path: Path) -> None:
    make_cache(tmp_path / "stems", tracks=6, clips=3, clip_s=CLIP_S, validation=2)
    alone = settings_of(tmp_path / "alone", processes=NODES)
    features(alone)
    train(alone)
    config = profile(tmp_path / "nodes")
    words = ["-m", "torch.distributed.run", "--nnodes", str(NODES), "--nproc-per-node", "1"]
    words += ["--master-addr", "127.0.0.1", "--master-port", str(free_ports(1)[0])]
    command = ["-m", "mixstyle.stages", "train", "--config", str(config)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    nodes = [
        subprocess.Popen(
            [sys.executable, *words, "--node-rank", str(rank), *command],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(NODES)
    ]
    told = [node.communicate(timeout=600)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0] * NODES, told
    alone_ckpt, nodes_ckpt = (tmp_path / name / "ckpt" for name in ("alone", "nodes"))
    assert (alone_ckpt / "loss.csv").read_bytes() == (nodes_ckpt / "loss.csv").read_bytes()
    # two addends have one sum, whichever machine they come from
    one, other = (load_checkpoint(folder / "final_model.pt")["encoder"] for folder in (alone_ckpt, nodes_ckpt))
    assert all(torch.equal(one[name], other[name]) for name in one)
