"""The PC as a machine of its own: Debian's kernel and programs, its own caches, its own crashes.

It is plugged into a board with MachineOptions(cable=DIRECTORY) by USB/IP: the board's controller is
a usbip-vudc, the PC's a vhci-hcd. To everything above those drivers it is a USB cable.
"""

import hashlib
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bootimg import cpio
from emulator import base, cable, cache, packages
from emulator.image import GUEST
from emulator.qemu import QEMU, Qemu
from emulator.shell import HostBlock, HostShell

RAM_MIB = 768
UDEV_S = 180
"""Until udev is done with disks that have come, on a machine that has much else to do: 38 s for one
event were seen there."""
CMDLINE = "console=ttyAMA0 loglevel=4 cryptomgr.notests panic=1 net.ifnames=0"
MODULES = """
    virtio_pci virtio_console virtio_net vhci-hcd usb-storage sd_mod sg
    ext4 crc32c_generic vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8
"""
# Programs that nobody here wrote, and the libraries that they need.
PACKAGES = """
    bash coreutils sed grep mount util-linux udev kmod libkmod2 dbus dbus-bin dbus-daemon
    dbus-system-bus-common udisks2 usbip bmap-tools dosfstools e2fsprogs f3 fdisk gdisk
    parted sdparm sg3-utils busybox-static
    python3 libpython3-stdlib python3.11 python3.11-minimal libpython3.11-minimal
    libpython3.11-stdlib python3-six
    libacl1 libapparmor1 libatasmart4 libattr1 libaudit1 libblkid1 libblockdev-fs2
    libblockdev-loop2 libblockdev-part-err2 libblockdev-part2 libblockdev-swap2
    libblockdev-utils2 libblockdev2 libbz2-1.0 libc6 libcap-ng0 libcap2 libcom-err2
    libcrypt1 libdbus-1-3 libdevmapper1.02.1 libexpat1 libext2fs2 libfdisk1 libffi8
    libgcc-s1 libgcrypt20 libglib2.0-0 libgmp10 libgpg-error0 libgssapi-krb5-2
    libgudev-1.0-0 libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0 liblz4-1 liblzma5
    libmd0 libmount1 libncursesw6 libnsl2 libparted2 libparted-fs-resize0 libpcre2-8-0
    libpolkit-agent-1-0 libpolkit-gobject-1-0 libpopt0 libreadline8 libselinux1
    libsgutils2-1.46-2 libsmartcols1 libss2 libssl3 libstdc++6 libsystemd0 libtinfo6
    libtirpc3 libudev1 libudisks2-0 libuuid1 libwrap0 libzstd1 zlib1g
"""
NEEDLESS = """
    usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/bash-completion
    usr/lib/aarch64-linux-gnu/gconv lib/udev/hwdb.d usr/lib/python3.11/test
    usr/lib/python3.11/pydoc_data usr/lib/python3.11/lib2to3 usr/share/gcc usr/share/gdb
"""
SKELETON = {
    "etc/passwd": "root::0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\ndisk:x:6:\nmessagebus:x:100:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/machine-id": "4d".rjust(32, "0") + "\n",
    "etc/mtab": "",
}
DIRECTORIES = "dev proc sys run tmp root mnt var/lib var/log emulator/applets usr/bin"
KEPT = 2


class Pc(Qemu):
    """The PC from power-on to power-off; `host_path` is the channel for a HostShell."""

    def __init__(self, cable_directory: Path, directory: Path | None = None) -> None:
        """Nothing happens yet. The cable lies in `cable_directory`; it is not plugged in."""
        super().__init__(directory)
        self.cable = cable_directory

    def _start(self) -> None:
        """The work of `start`."""
        archive = root()
        ours, theirs = socket.socketpair()
        command = [QEMU, "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", str(RAM_MIB)]
        command += ["-nodefaults", "-display", "none", "-kernel", str(base.get().kernel)]
        command += ["-initrd", str(archive), "-append", CMDLINE, "-S", "-no-reboot"]
        command += ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}"]
        command += ["-mon", "chardev=qmp,mode=control"]
        command += ["-chardev", f"file,id=uart,path={self.directory / 'pc.log'}"]
        command += ["-serial", "chardev:uart"]
        command += ["-device", "virtio-serial-pci", "-chardev", "pty,id=host"]
        command += ["-device", "virtserialport,chardev=host,name=host"]
        with theirs, cable.end(self.cable, "pc", "board") as end:
            command += end.arguments
            self._process = self._launch(command, [theirs.fileno(), end.descriptor])
        self._connect(ours)


class PcShell(HostShell):
    """A root shell on the PC, and its end of the cable.

    `run` and `check` give a command's exit status and output, `wait_for_blocks` waits for disks.
    """

    def has_attached(self, blocks: Sequence[HostBlock]) -> bool:
        """Whether the kernel is done with these disks, and udev, which opens each that comes."""
        return super().has_attached(blocks) and self.run("udevadm settle --timeout=20")[0] == 0

    def wait_for_blocks(
        self,
        count: int,
        timeout_s: float = UDEV_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> list[HostBlock]:
        """As HostShell's, with the time at the least that an emulated PC's udev may take."""
        return super().wait_for_blocks(count, max(timeout_s, UDEV_S), clock)

    def plug(self) -> None:
        """Put the cable in; the PC enumerates the board whenever it answers, also anew."""
        self.check("touch /run/cable")

    def unplug(self) -> None:
        """Pull the cable, whatever goes on; returns when the PC's controller has noticed."""
        # Both in one command: the loop beside it would attach again after a detach alone.
        self.check(
            "rm -f /run/cable; until ! grep -qE '^hs.* 00[56] '"
            " /sys/devices/platform/vhci_hcd.0/status; do usleep 20000; done"
        )

    def kernel_log(self) -> str:
        """All that the PC's kernel has logged."""
        return self.check("dmesg")


def root() -> Path:
    """The PC's root file system, an initramfs, built if this one is not in the cache yet."""
    ground = base.get()
    (kernel,) = (deb for deb in packages.fetch() if deb.name.startswith("linux-image"))
    debs = packages.fetch_more(PACKAGES.split())
    scripts = {name: (GUEST / name).read_bytes() for name in ("pc-init", "cable", "host", "eject")}
    inputs = [*(deb.name.encode() for deb in (kernel, *debs)), *scripts.values()]
    inputs.append(Path(__file__).read_bytes())
    key = hashlib.sha256(b"\0".join(inputs)).hexdigest()[:16]
    home = cache.directory("pc")
    archive = home / f"{key}.cpio"
    with cache.lock("pc"):
        if archive.exists():
            archive.touch()
            return archive
        with tempfile.TemporaryDirectory(prefix="draft-", dir=home) as draft:
            entries = list(_entries(ground, kernel, debs, scripts, Path(draft)))
            cache.write_atomically(archive, cpio.archive(entries))
        by_age = sorted(home.glob("*.cpio"), key=lambda path: path.stat().st_mtime)
        for old in by_age[:-KEPT]:
            old.unlink()
    return archive


def _entries(
    ground: base.Base, kernel: Path, debs: list[Path], scripts: dict[str, bytes], draft: Path
) -> Iterator[cpio.Entry]:
    """All that is in the PC's root file system."""
    top = draft / "root"
    for name in DIRECTORIES.split():
        (top / name).mkdir(parents=True, exist_ok=True)
    with cache.step("unpacking Debian packages for the PC"):
        for deb in debs:
            cache.output_of(["dpkg-deb", "-x", deb, top], what=f"unpack {deb.name}")
        cache.output_of(["dpkg-deb", "-x", kernel, draft / "kernel"], what="unpack the kernel")
        base.pick_modules(draft / "kernel/lib/modules", top, MODULES)
    for name in NEEDLESS.split():
        shutil.rmtree(top / name, ignore_errors=True)
    for name, text in SKELETON.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    (top / "bin/sh").symlink_to("bash")
    (top / "usr/bin/python3").symlink_to("python3.11")
    # Last on PATH, for what Debian's packages here do not bring: hostname, usleep.
    for applet in ground.run("bin/busybox", "--list", what="list BusyBox's applets").split():
        (top / "emulator/applets" / applet).symlink_to("/bin/busybox")
    with cache.step("compiling Python files for the PC"):
        for inside in (base.PYTHON, base.SITE_PACKAGES):
            ground.compile(top / inside, inside)
    with cache.step("packing the PC's root file system"):
        yield from cpio.tree(top)
    yield cpio.Entry("dev/console", 0o020600, device=(5, 1))
    yield cpio.file("init", scripts["pc-init"], 0o755)
    yield cpio.file("emulator/cable", scripts["cable"])
    yield cpio.file("emulator/host", scripts["host"])
    yield cpio.directory("emulator/bin")
    yield cpio.file("emulator/bin/eject", scripts["eject"], 0o755)
