"""What the system tells of the machine's memory."""

from pathlib import Path


def meminfo(path: Path = Path("/proc/meminfo")) -> dict[str, int]:
    """Bytes by name, as Linux tells them (`MemTotal`, `MemAvailable`, `SwapTotal`); empty where there is no such file
    or it cannot be read."""
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1:] == ["kB"]}
    except (OSError, ValueError, IndexError):
        return {}
