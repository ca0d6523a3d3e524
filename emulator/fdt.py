"""A flattened device tree in a file, read and changed in place by dtc's tools."""

from collections.abc import Iterator
from pathlib import Path

from emulator import cache


class Tree:
    """A *.dtb or *.dtbo. Each method raises EmulatorError if the tools refuse."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self.path = path

    def has(self, node: str) -> bool:
        """Whether the node is there."""
        above, _, name = node.rpartition("/")
        return not name or (self.has(above) and name in self.children(above or "/"))

    def children(self, node: str) -> list[str]:
        """The names of the nodes right below one that is there."""
        return self._run("fdtget", "-l", self.path, node).split()

    def walk(self, node: str = "/") -> Iterator[str]:
        """The node and all below it, by path."""
        yield node
        for child in self.children(node):
            yield from self.walk(f"{node.rstrip('/')}/{child}")

    def names(self, node: str) -> list[str]:
        """The names of a node's properties."""
        return self._run("fdtget", "-p", self.path, node).split()

    def get(self, node: str, name: str, kind: str = "") -> str:
        """A property's value, as fdtget prints it for a type (`-tx`, `-ts`, …)."""
        return self._run("fdtget", *filter(None, [kind]), self.path, node, name).rstrip("\n")

    def bytes(self, node: str, name: str) -> bytes:
        """A property's value as it is."""
        return bytes(int(byte, 16) for byte in self.get(node, name, "-tbx").split())

    def put(self, kind: str, node: str, name: str, *values: str) -> None:
        """Set a property to values of a type."""
        self._run("fdtput", kind, self.path, node, name, *values)

    def create(self, node: str) -> None:
        """Make a node, and those that lead to it."""
        self._run("fdtput", "-cp", self.path, node)

    def disable(self, node: str) -> None:
        """Leave a device out, if it is there."""
        if self.has(node):
            self.put("-ts", node, "status", "disabled")

    def remove(self, node: str) -> None:
        """Take a node out, if it is there."""
        if self.has(node):
            self._run("fdtput", "-r", self.path, node)

    def delete(self, node: str, *names: str) -> None:
        """Take properties out, those that are there."""
        for name in sorted({*names} & {*self.names(node)}):
            self._run("fdtput", "-d", self.path, node, name)

    def _run(self, *command: str | Path) -> str:
        return cache.output_of(command, what=f"read or change {self.path.name}")
