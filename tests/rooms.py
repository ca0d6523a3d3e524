"""How large gadgetd is and how high: floors of imports, modules and lines, by folder.

`make rooms` prints them. A module that imports nothing of gadgetd stands on floor 1,
any other one floor above the highest that it imports, also within a function. What is imported for
type checkers alone does not count, nor does `__main__`, which is `cli` under another name.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

import grimp

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "gadgetd"


def longest_chain() -> list[str]:
    """The modules of a longest chain of imports, the topmost first: as many as there are floors."""
    graph = grimp.build_graph("gadgetd", exclude_type_checking_imports=True, cache_dir=None)
    chains: dict[str, list[str]] = {}

    def chain(module: str) -> list[str]:
        if module not in chains:
            below = map(chain, sorted(graph.find_modules_directly_imported_by(module)))
            chains[module] = [module, *max(below, key=len, default=[])]
        return chains[module]

    return max(map(chain, sorted(graph.modules - {"gadgetd.__main__"})), key=len)


def modules() -> list[Path]:
    """All files but those that only make a folder a package."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def lines(path: Path) -> Counter[str]:
    """Count a file's lines by what they are: code, docstrings, comments, blank."""
    text = path.read_text()
    kinds = dict.fromkeys(range(1, text.count("\n") + 1), "blank")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.string.strip() and token.type != tokenize.ENDMARKER:
            for number in range(token.start[0], token.end[0] + 1):
                if kinds[number] == "blank" or token.type != tokenize.COMMENT:
                    kinds[number] = "comments" if token.type == tokenize.COMMENT else "code"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            kinds.update(
                dict.fromkeys(range(node.lineno, (node.end_lineno or 0) + 1), "docstrings")
            )
    return Counter(kinds.values())


def main() -> None:
    """Print all of it."""
    chain = longest_chain()
    print(f"floors   {len(chain)}: {' > '.join(name.removeprefix('gadgetd.') for name in chain)}")
    folders: dict[str, list[Path]] = {}
    for path in modules():
        folders.setdefault(str(path.parent.relative_to(CHECKOUT)), []).append(path)
    kinds = ("code", "docstrings", "comments", "blank")
    print("         modules    lines" + "".join(f"{kind:>12}" for kind in kinds))
    for name, paths in (*folders.items(), ("all", modules())):
        counts: Counter[str] = sum(map(lines, paths), Counter())
        row = "".join(f"{counts[kind]:>12}" for kind in kinds)
        print(f"{name.removeprefix('gadgetd/'):8}{len(paths):>8}{counts.total():>9}{row}")


if __name__ == "__main__":
    main()
