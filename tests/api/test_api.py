"""The public face hands on what it names, and nothing is loaded before it is used."""

import subprocess
import sys

import mixstyle


def test_every_public_name_is_there() -> None:
    for name in mixstyle.__all__:
        assert getattr(mixstyle, name) is not None, name
    assert set(mixstyle.__all__) - {"__version__"} == set(mixstyle._MODULE)


def test_unknown_names_are_refused() -> None:
    assert not hasattr(mixstyle, "no_such_name")


def test_import_loads_no_torch() -> None:
    code = "import sys, mixstyle; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
