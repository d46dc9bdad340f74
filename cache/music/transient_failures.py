"""Which failures to decode a track may be gone in another run."""

CRASHED = "the decoder crashed"
_TRANSIENT = (CRASHED, "out of memory")
"""What reasons begin with that may be the machine's and not the file's."""


def is_transient(reason: str) -> bool:
    """Whether the machine may be why a track was not decoded: its process was killed, or took too long.

    >>> is_transient("the decoder crashed: SIGKILL"), is_transient("too short: 1.00 s long, 20 s are needed")
    (True, False)
    """
    return reason.startswith(_TRANSIENT)
