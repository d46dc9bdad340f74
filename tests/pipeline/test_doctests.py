"""The examples in the docstrings of the measurements and the encoder run."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name", ["encoder.mel", "encoder.losses", "encoder.encoder", "descriptors.compute", "descriptors.spectrum"]
)
def test_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"mixstyle.pipeline.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
