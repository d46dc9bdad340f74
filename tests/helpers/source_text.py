"""What Python files say of themselves: imports, names of modules, calls, strings that stand alone."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements but those under `if TYPE_CHECKING`, which no program runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            continue  # no statement lies below an expression
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _statements(child)


def _last(node: ast.expr) -> str:
    """The last part of a name: `self.encoder` is encoder. Empty for what is no name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, str]]:
    """New names and the names that they stand for, in `target = value`; `a, b = c, d` is two."""
    if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
        for one, other in zip(target.elts, value.elts, strict=False):
            yield from _pairs(one, other)
    elif _last(target) and _last(value):
        yield _last(target), _last(value)


def aliases(tree: ast.AST) -> dict[str, set[str]]:
    """Other names that a file gives: by `import a as b`, `b = a`, `b := a`. Each with all that it stands for."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        pairs: list[tuple[str, str]] = []
        if isinstance(node, ast.ImportFrom):
            pairs = [(alias.asname, alias.name) for alias in node.names if alias.asname]
        elif isinstance(node, ast.Assign):
            pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            pairs = list(_pairs(node.target, node.value))
        for new, old in pairs:
            found.setdefault(new, set()).add(old)
    return found


def _calls(tree: ast.AST) -> frozenset[str]:
    """The last part of the names of all that a file calls, `self.encoder(x)` is encoder, under whatever other name."""
    other = aliases(tree)
    todo, found = {_last(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}, set[str]()
    while todo:
        name = todo.pop()
        found.add(name)
        todo |= other.get(name, set()) - found
    return frozenset(found - {""})


def texts_out_of_place(tree: ast.AST) -> list[int]:
    """Lines of strings that stand alone and describe nothing: neither module, class or function, nor a name above."""
    found = []
    for node in ast.walk(tree):
        body = getattr(node, "body", ())
        describes = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for child in body if isinstance(body, list) else ():
            text = child.value if isinstance(child, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str) and not describes:
                found.append(child.lineno)
            describes = isinstance(child, ast.Assign | ast.AnnAssign)
    return found


@dataclasses.dataclass(frozen=True)
class Told:
    """What a file says of itself. imports: its statements, those inside functions too. named: modules of ours below
    `mixstyle` that stand in it as text, as `import_module` and `python -m` take them. calls: the last part of the names
    of all that it calls. lone_texts: see `texts_out_of_place`."""

    imports: tuple[ast.Import | ast.ImportFrom, ...]
    named: frozenset[str]
    calls: frozenset[str]
    lone_texts: tuple[int, ...]


@cache
def _told(source: str) -> Told:
    tree = ast.parse(source)
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return Told(
        tuple(node for node in _statements(tree) if isinstance(node, ast.Import | ast.ImportFrom)),
        frozenset(text for text in texts if re.fullmatch(r"mixstyle(\.\w+)+", text)),
        _calls(tree),
        tuple(texts_out_of_place(tree)),
    )


def told(path: Path) -> Told:
    """What a file says of itself; each content is parsed once."""
    return _told(path.read_text())
