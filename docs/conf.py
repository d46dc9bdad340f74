"""How Sphinx builds the site: `uv run --group docs sphinx-build -W --keep-going docs docs/_build/html`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "mixstyle"
author = "the authors of mixstyle"
extensions = ["myst_nb", "sphinx.ext.autodoc", "api_pages", "mermaid_svg"]
exclude_patterns = ["_build", "_extensions"]
html_theme = "furo"
html_title = "mixstyle"
html_copy_source = False

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
nb_execution_mode = "off"  # the notebook is run by a test, and its outputs are stored in it

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
suppress_warnings = [
    "mystnb.unknown_mime_type",  # the notebook's sound players
]
