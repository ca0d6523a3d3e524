"""Every sentence about a problem that stands in gadgetd's code: docs/trouble.md has them all.

They are read out of the syntax tree: the first argument of each Problem and of each error but
ConfigError (those are in docs/configuration.md), and the texts in the functions and tables named
here. What varies in a sentence is written `…`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "gadgetd"
RAISED = {"Problem", "GadgetdError", "GadgetError", "DiskBusyError", "ControlError"}
TOLD_BY = {
    "blockscan.py": ("NO_MEDIUM", "_refusal", "_in_use", "_uses"),
    "export/choosing.py": ("_judge", "_unmatched"),
    "show/advice.py": ("_ALARMS", "_errors"),
    "show/snapshot.py": ("phase_of", "_stopped", "_NO_DISK", "_FLUSHED", "_LATER", "_REFUSED"),
    "usb/controllers.py": ("_choose",),
    "usb/steps.py": ("_WORDS",),
}
"""Functions of which each text counts, and tables of which each, or each pair's first, does."""
PASSED_ON = {
    "error.message",
    "outcome.refusal.message",
    "self._daemon.status.message",
    "status.message",
    "str(answer['refused'])",
    "str(reply.get('error', 'refused'))",
    "re.sub('(?=[:;] |$)', waited, facts.exported.note, count=1)",
}
"""Arguments that are no sentences: each hands on one that is found elsewhere."""

NO_TROUBLE = {
    *("exported by …", "first free of …", "named by usb.udc", "the only controller"),
    *("USB device controller …", "a USB device controller", "there is …"),
}

_SENTENCE = re.compile(r"\w+[ :…]\S*\w")


def sentences() -> set[str]:
    """All of them."""
    found: set[str] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        found |= set(_raised(tree, path))
        wanted = TOLD_BY.get(str(path.relative_to(PACKAGE)), ())
        found |= {text for text in _told(tree, wanted) if _SENTENCE.search(text)}
    return {re.sub("…+", "…", sentence) for sentence in found} - NO_TROUBLE


def _raised(tree: ast.Module, path: Path) -> Iterator[str]:
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.FunctionDef):
            continue
        named: dict[str, list[ast.expr]] = {}
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                named.setdefault(node.targets[0].id, []).append(node.value)
        for node in ast.walk(scope):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            if node.func.id in RAISED:
                yield from _texts(node.args[0], named, f"{path.name}:{node.lineno}")


def _texts(node: ast.expr, named: dict[str, list[ast.expr]], where: str) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body, named, where)
        yield from _texts(node.orelse, named, where)
    elif isinstance(node, ast.Name) and node.id in named:
        for value in named[node.id]:
            yield from _texts(value, named, where)
    elif isinstance(node, ast.Constant | ast.JoinedStr):
        yield _text(node)
    else:
        assert ast.unparse(node) in PASSED_ON, f"{where}: which sentence is {ast.unparse(node)}?"


def _told(tree: ast.Module, wanted: tuple[str, ...]) -> Iterator[str]:
    for node in tree.body:
        names = [node.name] if isinstance(node, ast.FunctionDef) else _targets(node)
        if not set(names) & set(wanted):
            continue
        if isinstance(node, ast.FunctionDef):
            for statement in node.body[ast.get_docstring(node) is not None :]:
                yield from _strings(statement)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            yield from _first_texts(node.value)


def _targets(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _first_texts(value: ast.expr) -> Iterator[str]:
    """The text, or of a table the first text of each row."""
    if isinstance(value, ast.Dict):
        for row in value.values:
            yield from list(_strings(row))[:1]
    elif isinstance(value, ast.Tuple) and any(isinstance(row, ast.Tuple) for row in value.elts):
        for row in value.elts:
            yield from list(_strings(row))[-1:]
    else:
        yield from _strings(value)


def _strings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant | ast.JoinedStr):
        if isinstance(node, ast.JoinedStr) or isinstance(node.value, str):
            yield _text(node)
        return
    for child in ast.iter_child_nodes(node):
        yield from _strings(child)


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    parts = (str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
    return "".join(parts)


if __name__ == "__main__":
    print("\n".join(sorted(sentences())))
