"""What the settings of several stages share: names of devices."""

Device = str
"""`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""


def names_a_device(name: str) -> bool:
    """Whether a text is auto, cpu, cuda or cuda:N."""
    return name in ("auto", "cpu", "cuda") or (name.startswith("cuda:") and name[5:].isdigit())
