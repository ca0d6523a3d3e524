"""Writes what is in a boot.img: manifest.json for machines, a size report for people.

The manifest depends on the image alone and is the same for the same image. The report also says
what has changed since the last build in the same output directory.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KIB = 1024
GROUPS = (  # longest first: the first that a path begins with has it
    ("usr/lib/python", "Python's standard library"),
    ("usr/lib", "libraries"),
    ("lib", "libraries"),
    ("etc", "configuration"),
    ("", "programs"),
)
LARGEST = 25


def main() -> None:
    """Write the manifest, the sizes and the report, where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("boot", "folder", "packages", "sizes", "report"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--target", default="")
    options = parser.parse_args()
    boot = {name: path.stat().st_size for name, path in files(options.boot)}
    rootfs = dict(rootfs_sizes(Path(options.target))) if options.target else {}
    manifest = {
        "files": {
            name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for name, path in (*files(options.folder), *inside(options.boot))
        },
        "packages": packages(options.packages.read_text()),
    }
    write(options.folder / "manifest.json", json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    image_bytes = (options.folder / "boot.img").stat().st_size
    sizes = {"boot.img": image_bytes, "boot": boot, "rootfs": rootfs}
    before = json.loads(options.sizes.read_text()) if options.sizes.exists() else None
    write(options.report, report(sizes, before))
    write(options.sizes, json.dumps(sizes, indent=1, sort_keys=True) + "\n")


def files(top: Path) -> Iterator[tuple[str, Path]]:
    """Every regular file below `top` with its path from there, sorted."""
    for path in sorted(top.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(top).as_posix(), path


def inside(boot: Path) -> Iterator[tuple[str, Path]]:
    """The files in boot.img, named as such."""
    for name, path in files(boot):
        yield f"boot.img/{name}", path


def sha256(path: Path) -> str:
    """The file's SHA-256, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def packages(text: str) -> dict[str, dict[str, str]]:
    """Lines of `name|version|licence` as a mapping."""
    found = {}
    for line in text.splitlines():
        name, version, licence = line.split("|", 2)
        if version or licence:
            found[name] = {"version": version.strip(), "license": licence.strip()}
    return found


def rootfs_sizes(target: Path) -> Iterator[tuple[str, int]]:
    """Every file of the root file system and its size in bytes, before compression."""
    for name, path in files(target):
        if not name.startswith(("dev/", "THIS_IS_NOT")):
            yield name, path.stat().st_size


def group(name: str) -> str:
    """What a file of the root file system belongs to."""
    if "/site-packages/" in name:
        return name.split("/site-packages/")[1].split("/")[0].split("-")[0]
    return next(title for prefix, title in GROUPS if name.startswith(prefix))


def report(sizes: dict[str, Any], before: dict[str, Any] | None) -> str:
    """The sizes, largest first, each with its change since `before`."""
    before = before or sizes
    groups, groups_before = by_group(sizes["rootfs"]), by_group(before["rootfs"])
    lines = [line("boot.img", sizes["boot.img"], before["boot.img"]), "", "in boot.img:"]
    lines += table(sizes["boot"], before["boot"])
    if groups:
        lines += ["", "in the root file system, before compression:", *table(groups, groups_before)]
        lines += ["", "its largest files:", *table(sizes["rootfs"], before["rootfs"], LARGEST)]
    return "\n".join(lines) + "\n"


def by_group(rootfs: dict[str, int]) -> dict[str, int]:
    """The sum of each group."""
    sums: dict[str, int] = {}
    for name, size in rootfs.items():
        sums[group(name)] = sums.get(group(name), 0) + size
    return sums


def table(now: dict[str, int], before: dict[str, int], most: int | None = None) -> list[str]:
    """A line for each, largest first; what has gone since comes last."""
    names = sorted(now, key=lambda name: (-now[name], name))[:most]
    gone = [] if most else sorted(set(before) - set(now))
    return [line(name, now.get(name, 0), before.get(name, 0)) for name in (*names, *gone)]


def line(name: str, size: int, before: int) -> str:
    """`  1234 KiB   +12  name`."""
    change = f"{(size - before) / KIB:+.1f}" if size != before else ""
    return f"{size / KIB:10.1f} KiB {change:>9}  {name}"


def write(path: Path, text: str) -> None:
    """Write a text file."""
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
