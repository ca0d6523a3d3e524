"""What `inspect` prints for a person."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show(report: dict[str, Any]) -> None:
    """Print the report of bootimg.inspect as tables."""
    console = Console(highlight=False)
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column()
    facts.add_column(overflow="fold")

    def fact(name: str, text: object) -> None:
        facts.add_row(name, escape(str(text)))

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
    fact("gadgetd", (inside["version"] or "version unknown") if inside else "not in it")
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
        files.add_row(escape(path), str(size))
    console.print(files)
    console.print()
    for problem in report["problems"]:
        colour = "red" if problem["level"] == "error" else "yellow"
        console.print(f"[{colour}]{problem['level']}[/]: {escape(problem['text'])}")
    if not report["problems"]:
        console.print("nothing is wrong with it")
