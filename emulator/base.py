"""The base layer: a BusyBox root with Python, pyudev, PyYAML and kernel modules, from Debian.

It stands where Buildroot's target directory stands for the real image, before gadgetd and the
overlay come in. Built once and kept in the cache under a hash of all that goes into it.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootimg import cpio
from emulator import cache, packages
from emulator.errors import EmulatorError

PYTHON = "usr/lib/python3.11"
SITE_PACKAGES = "usr/lib/python3/dist-packages"
KEPT = 3  # base layers in the cache, of 140 MB each

MODULES = (
    # The board's USB side, and the USB host's: dummy_hcd is both ends of the cable.
    "dummy_hcd libcomposite usb_f_mass_storage usb_f_acm usbip-vudc vhci-hcd",
    "usb-storage uas sd_mod sg cdc-acm",
    # The board: what the real image has built in. xhci and ahci stand behind PCIe there.
    "nvme sdhci-pci xhci-pci ahci leds-gpio ledtrig-timer ledtrig-default-on",
    "ledtrig-oneshot ledtrig-pattern virtio_pci virtio-gpu virtio_console",
    # A BCM2711's own, for QEMU's raspi4b; the rest of it Debian has built in.
    "sdhci-iproc bcm2835_wdt dwc2 phy-generic reset-raspberrypi raspberrypi-cpufreq",
    # The cable to a PC that is a machine of its own.
    "virtio_net",
    # For tests: other kinds of disk, and file systems on them.
    "null_blk loop dm-mod ext4 crc32c_generic vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8",
)

NEVER_IMPORTED = """
    test pydoc_data distutils lib2to3 ensurepip idlelib tkinter turtledemo turtle.py venv wsgiref
    xmlrpc sqlite3 dbm curses antigravity.py this.py mailbox.py imaplib.py nntplib.py smtpd.py
    smtplib.py poplib.py ftplib.py telnetlib.py cgi.py cgitb.py
"""
# Of these the first two need libraries that the board has not.
EXTENSIONS_LEFT_OUT = "nis _sqlite3 _dbm _curses* _test* _xx* xx* _codecs_??"
PRUNED = (
    *("boot", "etc/ld.so.conf.d", "usr/share", "usr/include"),
    *(f"usr/lib/aarch64-linux-gnu/{name}" for name in ("gconv", "ossl-modules", "engines-3")),
    *(f"{PYTHON}/{name}" for name in NEVER_IMPORTED.split()),
    *(f"{PYTHON}/lib-dynload/{name}.*.so" for name in EXTENSIONS_LEFT_OUT.split()),
    # pyudev's bindings to toolkits
    *(f"{SITE_PACKAGES}/pyudev/{name}.py" for name in ("py[qs]*", "_qt_base", "glib", "wx")),
)

SKELETON = {
    "etc/passwd": "root::0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\ntty:x:5:\ndisk:x:6:\n",
    "etc/shells": "/bin/sh\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/profile": "export PATH=/bin:/sbin:/usr/bin:/usr/sbin\n",
}
DIRECTORIES = "bin dev etc lib mnt proc root run sbin sys tmp usr/bin usr/sbin var/log"


@dataclass(frozen=True)
class Base:
    """A built base layer: two files, the kernel's device trees of Raspberry Pis, and the tree that
    qemu-user runs its programs from.
    """

    key: str
    kernel: Path
    archive: Path
    root: Path
    device_trees: Path

    def run(self, program: str, *arguments: str | Path, what: str) -> str:
        """Run one of the root's own arm64 programs on this machine and return its stdout.

        Raises EmulatorError if it fails.
        """
        return cache.output_of(
            ["qemu-aarch64", "-L", self.root, self.root / program, *arguments],
            env={"PYTHONHOME": str(self.root / "usr"), "PYTHONNOUSERSITE": "1"},
            what=what,
        )

    def compile(self, top: Path, inside: str) -> None:
        """Byte-compile the Python files below `top`, which the board will have at /`inside`.

        The files are not compared with their sources afterwards: on the board nothing changes.
        """
        self.run(
            "usr/bin/python3.11",
            *("-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
            *("-s", top, "-p", f"/{inside}", top),
            what="compile Python files for the board",
        )


def get() -> Base:
    """The base layer, built if this one is not in the cache yet.

    Raises EmulatorError if a package is missing, or lacks something that is needed.
    """
    debs = packages.fetch()
    inputs = [*(deb.name.encode() for deb in debs)]
    inputs += [Path(source).read_bytes() for source in (__file__, cpio.__file__)]
    key = hashlib.sha256(b"\0".join(inputs)).hexdigest()[:16]
    with cache.lock("base"):
        home = cache.directory("base") / key
        base = _base(key, home)
        if home.exists():
            os.utime(home)
        else:
            _forget_old(home.parent)
            with tempfile.TemporaryDirectory(prefix="draft-", dir=home.parent) as draft:
                _build(debs, Path(draft))
                (Path(draft) / "keep").rename(home)
    return base


def _base(key: str, home: Path) -> Base:
    """The parts of a layer in the directory that they are in."""
    return Base(key, home / "Image", home / "base.cpio", home / "root", home / "device-trees")


def _forget_old(homes: Path) -> None:
    """Remove what interrupted builds left, and all but the layers used last."""
    by_age = sorted(homes.iterdir(), key=lambda path: path.stat().st_mtime)
    drafts = [path for path in by_age if path.name.startswith("draft-")]
    kept = [path for path in by_age if path not in drafts]
    for path in (*drafts, *kept[: -KEPT + 1]):
        shutil.rmtree(path)


def _build(debs: Sequence[Path], draft: Path) -> None:
    """Make draft/keep with the parts of a Base."""
    keep, root = draft / "keep", draft / "keep" / "root"
    root.mkdir(parents=True)
    base = _base("", keep)
    with cache.step("unpacking Debian packages"):
        for deb in debs:
            target = draft / "kernel" if deb.name.startswith("linux-image") else root
            cache.output_of(["dpkg-deb", "-x", deb, target], what=f"unpack {deb.name}")
        (kernel,) = (draft / "kernel" / "boot").glob("vmlinuz-*")
        shutil.copyfile(kernel, base.kernel)
        base.device_trees.mkdir()
        for tree in (draft / "kernel/usr/lib").glob("linux-image-*/broadcom/bcm2711-*.dtb"):
            shutil.copy(tree, base.device_trees)
        pick_modules(draft / "kernel" / "lib/modules", root, " ".join(MODULES))
        for binary in (root / "lib/modules").glob("*/modules.*.bin"):
            binary.unlink()  # for kmod; BusyBox reads the text
    for pattern in PRUNED:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _lay_skeleton(base)
    with cache.step("compiling Python files for the board"):
        for inside in (PYTHON, SITE_PACKAGES):
            base.compile(root / inside, inside)
    with cache.step("checking that every Python extension finds its libraries"):
        extensions = (root / PYTHON / "lib-dynload").glob("*.so")
        names = sorted({path.name.partition(".")[0] for path in extensions})
        base.run(
            "usr/bin/python3.11",
            *("-c", f"import sys; sys.path.append('{root / SITE_PACKAGES}')\n"
              f"import {', '.join(names)}, pyudev, yaml, pdb; pyudev.Context()"),
            what="import all of the board's Python extensions",
        )  # fmt: skip
    with cache.step("packing the base layer"):
        console = cpio.Entry("dev/console", 0o020600, device=(5, 1))
        base.archive.write_bytes(cpio.archive([*cpio.tree(root), console]))


def _lay_skeleton(base: Base) -> None:
    """The directories, a passwd file, BusyBox's links: what Buildroot's skeleton brings."""
    root = base.root
    for name in DIRECTORIES.split():
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "usr/bin/python3").symlink_to("python3.11")
    for name, text in SKELETON.items():
        (root / name).write_text(text)
    for applet in base.run("bin/busybox", "--list-full", what="list BusyBox's applets").split():
        link = root / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to("/bin/busybox")


def pick_modules(source: Path, root: Path, wanted: str) -> None:
    """Copy these modules and what they need, and index them as modprobe wants it."""
    (version,) = source.iterdir()
    files = {_module_name(path.stem): path for path in version.rglob("*.ko")}
    builtin = {
        _module_name(Path(line).stem)
        for line in (version / "modules.builtin").read_text().splitlines()
    }
    target = root / "lib/modules" / version.name
    for name in _closure(files, builtin, wanted.split()):
        copy = target / files[name].relative_to(version)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[name], copy)
    for index in version.glob("modules.*"):
        shutil.copyfile(index, target / index.name)
    cache.output_of(["/sbin/depmod", "-b", root, version.name], what="index the kernel's modules")


def _closure(files: dict[str, Path], builtin: set[str], wanted: Iterable[str]) -> Iterator[str]:
    """The modules wanted and all that they depend on, each once, less those built in."""
    seen = set(builtin)
    queue = [_module_name(name) for name in wanted]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in files:
            raise EmulatorError(f"Debian's kernel has no module {name}")
        yield name
        depends = re.search(rb"\0depends=([^\0]+)\0", files[name].read_bytes())
        if depends:
            queue += [_module_name(need) for need in depends[1].decode().split(",")]


def _module_name(name: str) -> str:
    """The name as the kernel writes it: files and people use dashes at will."""
    return name.replace("-", "_")
