"""The initramfs of one emulated board, in layers that the kernel unpacks one over the other.

1. base: BusyBox, Python, kernel modules (base.py); built once.
2. project: gadgetd as pip would install it, and rootfs-overlay/ over it; built when they change.
3. machine: the emulator's own /init and its settings, and files that the caller gives.
"""

import hashlib
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bootimg import cpio
from emulator import base, cache, packages
from emulator.errors import EmulatorError

GUEST = Path(__file__).with_name("guest")
ENTRY_SCRIPT = """\
#!/usr/bin/python3
import sys

from {module} import {function}

if __name__ == "__main__":
    sys.exit({function}())
"""
KEPT_PROJECT_LAYERS = 8


def build(
    target: Path,
    settings: Mapping[str, str | int | float],
    files: Mapping[str, bytes | Path],
    checkout: Path,
    more_packages: Sequence[str] = (),
) -> base.Base:
    """Write the initramfs for one machine to `target`; returns the base layer, for its kernel.

    `settings` are shell variables for guest/init. `files` are put in last: absolute path on the
    board to content; a Path is read, with its mode. `more_packages` are Debian's, for this machine
    alone. Raises EmulatorError.
    """
    ground = base.get()
    layers = [ground.archive.read_bytes(), *_packages_layer(more_packages)]
    layers.append(project_layer(ground, checkout).read_bytes())
    layers.append(cpio.archive(_machine_entries(settings, files)))
    target.write_bytes(b"".join(layers))
    return ground


def build_over(
    target: Path,
    rootfs: Path,
    settings: Mapping[str, str | int | float],
    files: Mapping[str, bytes | Path],
) -> None:
    """Write the initramfs for one machine that runs a finished root file system, `rootfs`.

    Only the emulator's own /init and what the caller gives are laid over it.
    """
    ground = rootfs.read_bytes()
    padding = bytes(-len(ground) % 4)  # the kernel looks for the next archive at such a place
    target.write_bytes(ground + padding + cpio.archive(_machine_entries(settings, files)))


def _packages_layer(names: Sequence[str]) -> Iterator[bytes]:
    """An archive with what these packages bring, less what nobody reads on a board."""
    if not names:
        return
    with tempfile.TemporaryDirectory(prefix="packages-") as draft:
        for deb in packages.fetch_more(names):
            cache.output_of(["dpkg-deb", "-x", deb, draft], what=f"unpack {deb.name}")
        entries = [e for e in cpio.tree(Path(draft)) if not e.path.startswith("usr/share")]
    yield cpio.archive(entries)


def project_layer(ground: base.Base, checkout: Path = cache.CHECKOUT) -> Path:
    """The archive with gadgetd and the overlay, from the cache if they are as they were."""
    overlay, package = checkout / "rootfs-overlay", checkout / "gadgetd"
    for part in (overlay, package):
        if not part.is_dir():
            raise EmulatorError(f"{part} is not there", hint="run this in a checkout of gadgetd")
    # Other processes may be compiling what is there.
    sources = list(cpio.tree(package, without="__pycache__"))
    entry_point = (checkout / "pyproject.toml").read_bytes()
    laid_over = cpio.archive(cpio.tree(overlay))
    inputs = (cpio.archive(sources), laid_over, entry_point, Path(__file__).read_bytes())
    digest = hashlib.sha256(ground.key.encode())
    for part_bytes in inputs:
        digest.update(hashlib.sha256(part_bytes).digest())
    home = cache.directory("project")
    archive = home / f"{digest.hexdigest()[:16]}.cpio"
    with cache.lock("project"):
        if archive.exists():
            archive.touch()
            return archive
        with cache.step("building the project layer"):
            entries = list(_installed(ground, sources, entry_point.decode()))
        cache.write_atomically(archive, cpio.archive(entries) + laid_over)
        for old in sorted(home.glob("*.cpio"), key=_age)[:-KEPT_PROJECT_LAYERS]:
            old.unlink()
    return archive


def _age(path: Path) -> float:
    """Sorts the files used longest ago first."""
    return path.stat().st_mtime


def _installed(
    ground: base.Base, sources: list[cpio.Entry], pyproject: str
) -> Iterator[cpio.Entry]:
    """What `pip install` would put on the board: the package, its record and its script."""
    inside = f"{base.SITE_PACKAGES}/gadgetd"
    with tempfile.TemporaryDirectory(prefix="gadgetd-") as draft:
        top = Path(draft) / "gadgetd"
        top.mkdir()
        for entry in sources:
            if stat.S_ISDIR(entry.mode):
                (top / entry.path).mkdir()
            else:
                (top / entry.path).write_bytes(entry.data)
        ground.compile(top, inside)
        yield cpio.directory(inside)
        yield from cpio.tree(top, prefix=f"{inside}/")
    version = next(
        (
            match[1].decode()
            for entry in sources
            if entry.path == "__init__.py"
            and (match := re.search(rb'^__version__\b.*?"([^"]+)"', entry.data, re.MULTILINE))
        ),
        "0",
    )
    record = f"{base.SITE_PACKAGES}/gadgetd-{version}.dist-info"
    # The PC's command, of another package, is not for the board.
    scripts = re.findall(r'^([\w-]+) = "(gadgetd\.[\w.]+):(\w+)"$', pyproject, re.MULTILINE)
    yield cpio.directory(record)
    yield cpio.file(
        f"{record}/METADATA",
        f"Metadata-Version: 2.1\nName: gadgetd\nVersion: {version}\n".encode(),
    )
    for name, module, function in scripts:
        script = ENTRY_SCRIPT.format(module=module, function=function)
        yield cpio.file(f"usr/bin/{name}", script.encode(), 0o755)


def _machine_entries(
    settings: Mapping[str, str | int | float], files: Mapping[str, bytes | Path]
) -> Iterator[cpio.Entry]:
    """The emulator's /init and settings, then the caller's files and the directories they need."""
    yield cpio.directory("emulator")
    yield cpio.file("init", (GUEST / "init").read_bytes(), 0o755)
    yield cpio.file("emulator/host", (GUEST / "host").read_bytes())
    yield cpio.directory("emulator/bin")
    yield cpio.file("emulator/bin/eject", (GUEST / "eject").read_bytes(), 0o755)
    lines = "".join(f'{name}="{value}"\n' for name, value in settings.items())
    yield cpio.file("emulator/settings", lines.encode())
    for path, content in files.items():
        if not path.startswith("/") or ".." in Path(path).parts:
            raise EmulatorError(f"{path} is no absolute path on the board", hint="as in /etc/motd")
        name = path.lstrip("/")
        if isinstance(content, bytes):
            yield from cpio.parents(name)
            yield cpio.file(name, content)
        else:
            yield from cpio.parents(name)
            mode = stat.S_IMODE(content.stat().st_mode)
            yield cpio.file(name, content.read_bytes(), mode)
