"""The API reference: a page for each package, and docstrings, which are plain text, as reStructuredText."""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

FOLDER = "_api"
"""Of the generated pages, within docs/; git does not track it."""
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def packages() -> dict[str, list[str]]:
    """Every package of mixstyle with the names of its modules."""
    import mixstyle

    found: dict[str, list[str]] = {}
    for module in pkgutil.walk_packages(mixstyle.__path__, "mixstyle."):
        if module.ispkg:
            found.setdefault(module.name, [])
        elif not module.name.endswith("__main__"):
            found.setdefault(module.name.rpartition(".")[0], []).append(module.name)
    return {name: sorted(modules) for name, modules in sorted(found.items()) if modules}


def write_pages(app: Sphinx) -> None:
    """Writes a page a package, and the page of the public names."""
    import mixstyle

    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    pages = {"public": _page("mixstyle", "What ``import mixstyle`` offers.", _public(mixstyle.__all__))}
    for package, modules in packages().items():
        said = _escaped(importlib.import_module(package).__doc__ or "")
        blocks = [
            f".. automodule:: {name}\n   :members:\n   :ignore-module-all:\n   :show-inheritance:\n" for name in modules
        ]
        titled = [f"{name}\n{'-' * len(name)}\n\n{block}" for name, block in zip(modules, blocks, strict=True)]
        pages[package.removeprefix("mixstyle.")] = _page(package, said, titled)
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


def _page(title: str, said: str, blocks: list[str]) -> str:
    return "\n".join([title, "=" * len(title), "", said, "", *blocks])


def _public(names: list[str]) -> list[str]:
    import mixstyle

    blocks = []
    for name in names:
        value = getattr(mixstyle, name)
        kind = "autoclass" if isinstance(value, type) else "autofunction" if callable(value) else "autodata"
        members = "   :members:\n" if kind == "autoclass" else ""
        hidden = "   :no-value:\n" if kind == "autodata" else ""
        # Without an index: each is at home on its package's page, and a second target makes references ambiguous.
        blocks.append(f".. {kind}:: mixstyle.{name}\n   :no-index:\n{members}{hidden}")
    return blocks


def as_rst(_app: Sphinx, what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Turns a docstring's lines, in place: code in backticks stays code, and no sign is markup."""
    package, _, attribute = name.rpartition(".")
    if what == "data" and package == "mixstyle":  # autodoc would show what its type says of itself
        lines[:] = _said_at_home(attribute)
    text = _escaped("\n".join(lines))
    lines[:] = [*text.split("\n"), ""]


def _said_at_home(name: str) -> list[str]:
    """The docstring of a public constant, from below its assignment."""
    import mixstyle

    module = mixstyle._MODULE.get(name)
    return ModuleAnalyzer.for_module(module).find_attr_docs().get(("", name), []) if module else []


def _escaped(text: str) -> str:
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        if line.strip() and before.strip() and (_indent(line) != _indent(before) or line.lstrip().startswith("- ")):
            lines.append("")  # without a blank line between, another indentation is an error
        lines.append(line)
    return "\n\n".join(map(_escaped_paragraph, "\n".join(lines).split("\n\n")))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _escaped_paragraph(text: str) -> str:
    if text.lstrip().startswith(">>>"):
        return text
    parts = _CODE.split(text)  # text, code, text, ...
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"``{' '.join(part.split())}``"
        else:
            parts[i] = re.sub(r"([\\*|`]|_(?=\W|$))", r"\\\1", part)
            if i and parts[i][:1].isalnum():
                parts[i] = "\\ " + parts[i]
    return "".join(parts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", as_rst)
    return {"parallel_read_safe": True}
