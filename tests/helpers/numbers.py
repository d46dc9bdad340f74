"""The numbers in a line for people: what a test holds of it, so that its words may change."""

import re


def numbers(text: str) -> list[float]:
    """The numbers that stand in a text, in its order. A hyphen inside a word is no sign."""
    return [float(found) for found in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]
