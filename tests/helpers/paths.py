"""Where the repository's files lie, whichever folder a test stands in."""

from pathlib import Path

TESTS = Path(__file__).parent.parent
"""What a test's own process puts on its path to import `helpers`."""
ROOT = TESTS.parent
DATA = TESTS / "data"
