"""Whether a Ray cluster answers at an address: looked at before a command begins its work.

Ray itself tries for minutes, with lines of its own, where nobody listens.
"""

import os
import socket
from importlib.util import find_spec

from mixstyle.pipeline.core.errors import MixstyleError, one_line

CONNECT_S = 5.0
LOCAL, AUTO, CLIENT = "local", "auto", "ray://"
_START = "`ray start --head --port 6379` starts one, and --ray local needs none"


def check_address(address: str) -> None:
    """Raises MixstyleError where --ray cannot be: without Ray ("no-package"), for what is no address ("bad-option"),
    and where no cluster answers ("not-found")."""
    if not _has_ray():
        raise MixstyleError("--ray needs Ray: install mixstyle with its extra, mixstyle[ray]", code="no-package")
    if address == LOCAL:
        return
    where = _found() if address == AUTO else address
    if where is None:
        return  # not known: Ray itself looks for it
    host, port = _host_and_port(address, where)
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except (OSError, UnicodeError) as error:
        raise _no_cluster(address if where == address else f"{address} ({where})", one_line(error, 200)) from error


def not_joined(address: str, reason: str) -> MixstyleError:
    """The error where Ray does not connect to what answers, or does not start a cluster of this machine."""
    if address == LOCAL:
        what = f"--ray {address}: Ray does not start ({reason}); on a machine that is busy, run the same command again"
    else:
        what = (
            f"--ray {address}: Ray does not connect to it ({reason}); if its machines need a token, set "
            "RAY_AUTH_MODE=token, with the token of the first one in ~/.ray/auth_token"
        )
    return MixstyleError(what, code="not-found")


def _no_cluster(address: str, reason: str) -> MixstyleError:
    """The error where no cluster answers."""
    return MixstyleError(f"--ray {address}: no cluster answers there ({reason}); {_START}", code="not-found")


def _has_ray() -> bool:
    try:
        return find_spec("ray") is not None
    except ValueError:  # a module of that name that was not found in a file
        return False


def _host_and_port(address: str, where: str) -> tuple[str, int]:
    host, _, port = where.removeprefix(CLIENT).rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 65536:
        raise MixstyleError(
            f"--ray {address}: should be auto, local, HOST:PORT or ray://HOST:PORT"
            + ("" if where == address else f", and RAY_ADDRESS={where} is not"),
            code="bad-option",
        )
    return host.strip("[]"), int(port)


def _found() -> str | None:
    """Where `auto` is, as Ray finds it: RAY_ADDRESS, else a cluster of this machine. None where that is not known."""
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    try:
        from ray._private.services import get_ray_address_from_environment

        return str(get_ray_address_from_environment(AUTO, None))
    except ConnectionError as error:
        raise _no_cluster(AUTO, "none is found on this machine") from error
    except (ImportError, AttributeError, TypeError):  # not part of Ray's public interface
        return None
