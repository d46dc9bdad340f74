"""Which device a process of training gets, and how it is told that it finds no others."""

import socket
from datetime import timedelta

import pytest

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.train import TrainSettings
from mixstyle.stages.train import launcher
from mixstyle.stages.train.launcher import device_of_rank, join_others


def test_each_process_gets_the_device_that_is_named_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "resolve_device", lambda name, option: f"resolved {name}")
    options = TrainSettings(devices=("cuda:1", "cuda:3"))
    assert options.process_count == 2
    for place, expected in enumerate(options.devices):
        monkeypatch.setenv("LOCAL_RANK", str(place))
        assert device_of_rank(options) == f"resolved {expected}"
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(MixstyleError) as caught:
        device_of_rank(options)
    assert caught.value.code == "no-device"
    assert "train.devices" in str(caught.value)


def test_without_devices_a_lone_process_gets_the_one_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert device_of_rank(TrainSettings(device="cpu")).type == "cpu"
    assert TrainSettings(processes=4).process_count == 4


def test_others_that_are_not_there_are_told_with_their_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:  # bound, so that nobody else gets it, and not listening
        closed.bind(("127.0.0.1", 0))
        port = str(closed.getsockname()[1])
        for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port)):
            monkeypatch.setenv(name, value)
        with pytest.raises(MixstyleError) as caught:
            join_others("gloo", timedelta(seconds=1))
    assert (caught.value.code, f"127.0.0.1:{port}" in caught.value.message) == ("remote", True)
    assert f"127.0.0.1:{port}" in capsys.readouterr().err, "while it waits, it says for what"
