"""`mixstyle COMMAND`, and `python -m mixstyle.stages COMMAND`, which torchrun and other processes of ours start.

Most of a command's first half second goes into imports. Ctrl-C ends it there too with one line; nothing has been
written by then. So this module imports next to nothing itself.
"""

import os
import signal


def main() -> None:
    """Imports the command line and runs it."""
    early = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a script's background jobs ignore it
    if early:
        signal.signal(signal.SIGINT, _stop)
    from mixstyle.stages.cli import main as run

    if early:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _stop(*_: object) -> None:
    """At once: libraries make errors of their own of an exception that comes while they are imported."""
    os.write(2, b"mixstyle: stopped\n")
    os._exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
