"""Checks the licence of every Python package that the project is run, tested or measured with.

`make lint` runs it, on what is installed, without a network. A package says its licence in one of
four places. A licence that is not known here is looked at by a person before it is added.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageMetadata, distributions

KNOWN = re.compile(
    r"(the )?(MIT|BSD|Apache|ISC|MPL|Mozilla Public|PSF|Python Software|HPND|Zlib|LGPL"
    r"|GNU Lesser|0BSD|CC0)\b",
    re.IGNORECASE,
)
"""How a licence begins that lets this project use the package and give its own away as MIT. The
LGPL is pyudev's: a library that the board's owner can replace."""


def licences(package: PackageMetadata) -> tuple[str, ...]:
    """What a package says of its licence: alternatives, in words of its own."""
    for expression in package.get_all("License-Expression", []):
        return tuple(expression.split(" OR "))
    classifiers = [each for each in package.get_all("Classifier", []) if "License ::" in each]
    told = [each.rpartition(" :: ")[2] for each in classifiers]
    return (*told, *(text.partition("\n")[0] for text in package.get_all("License", [])))


def titles(distribution: Distribution) -> tuple[str, ...]:
    """What stands at the head of the licence files that a package brings."""
    names = distribution.metadata.get_all("License-File", [])
    texts = (distribution.read_text(f"licenses/{name}") or "" for name in names)
    return tuple(text.strip().partition("\n")[0] for text in texts)


def unknown() -> Iterator[str]:
    """One sentence for each package without a licence that is known."""
    for distribution in distributions():
        told = licences(distribution.metadata) or titles(distribution)
        if not any(all(map(KNOWN.match, each.strip("()").split(" AND "))) for each in told):
            name = distribution.metadata["Name"]
            said = ", ".join(filter(None, told)) or "nothing"
            yield f"{name}: its licence is not one of the known ones: it says {said}"


def main() -> int:
    """Check everything; 1 if a licence is not known, after saying whose."""
    wrong = sorted(unknown())
    for sentence in wrong:
        print(sentence)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
