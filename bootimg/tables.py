"""What `inspect` prints for a person."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bootimg.errors import plain

_COLOURS = {"error": "red", "warning": "yellow"}
_UNBOUNDED = 1 << 16


def show(report: dict[str, Any]) -> None:
    """Print the report of bootimg.inspect as tables, for a file or a program without breaks."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column()
    facts.add_column(overflow="fold")

    def fact(name: str, text: object) -> None:
        facts.add_row(plain(name), Text(plain(str(text))))

    fat = report["fat"]
    fact("image", f"{report['image']}, {report['bytes']} bytes")
    fact("sha256", report["sha256"])
    fact("FAT", f"FAT{fat['bits']}, label {fat['label']}, {fat['free_bytes']} bytes free")
    if "kernel" in report:
        kernel = report["kernel"]
        fact("kernel", f"{kernel['file']}, {kernel['bytes']} bytes, {kernel['format']}")
    for file in report["initramfs"]:
        fact("initramfs", f"{file['file']}, {file['bytes']} bytes, {file['compression']}")
    inside = report["gadgetd"]
    if inside:
        fact("gadgetd", inside["version"] or "version unknown")
    else:
        fact("gadgetd", "not in it" if report["looked_into"] else "unknown, see below")
    if inside:
        fact("boards", ", ".join(inside["boards"]) or "all")
        if inside["configuration"] is None:
            fact("configuration", "none: the defaults")
        for number, line in enumerate((inside["configuration"] or "").splitlines()):
            fact("" if number else "configuration", line)
    for key, value in (report["settings"] or {}).items():
        if key not in ("config", "boards"):
            fact(f"set: {key}", value)
    signature = report["signature"]
    if signature:
        fact("boot.sig", "of this image" if signature["of_this_image"] else "of another image")
    console.print(facts)
    console.print()
    files = Table("file", "bytes", box=None, padding=(0, 2, 0, 0))
    files.columns[1].justify = "right"
    for path, size in report["files"].items():
        files.add_row(Text(plain(path)), str(size))
    console.print(files)
    console.print()
    for problem in report["problems"]:
        level = Text(problem["level"], style=_COLOURS[problem["level"]])
        console.print(level + Text(f": {plain(problem['text'])}"))
    if not report["problems"]:
        console.print("nothing is wrong with it")
