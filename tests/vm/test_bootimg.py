"""boot.img changed on the PC: what `gadgetd-bootimg configure` sets is what the board does.

An image is made of the emulator's own kernel and root, changed, and taken apart again as the
firmware does it; what comes out is booted. The emulator's second channel has a shell of its own,
which looks for those that the board must not give.
"""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from bootimg import cli
from emulator import Drive, MachineOptions, firmware
from tests.vm.board import BOOT_S, WAIT_S, Board, until
from tests.vm.bootable import boot_img
from tests.vm.conftest import Bench

pytestmark = pytest.mark.emulated

MIB = 1 << 20
SD_SIZE, NVME_SIZE = 64 * MIB, 100 * MIB
NVME_ONLY = "disks:\n  - kind: nvme\n    read_only: true\n"
# openssl passwd -6 -salt gadgetd secret
HASH = (
    "$6$gadgetd$EpSGNNkyfOSVCSVtQPbgdAqKMvrbCRqeQzOV.n4vz"
    "/qrgmF.eGvJ1BsMErzAUe2bV0v.wZvQkxz4mRIgBFuX./"
)
GIVES_A_SHELL = "ps -o args | grep -E '[g]etty|[/]bin/login|^-'"


def made(
    top: Path, *settings: str, pack: Callable[[bytes], bytes], config: str = ""
) -> MachineOptions:
    """A board with what the firmware would load of a boot.img with these settings."""
    source, changed = boot_img(top, pack), top / "changed.img"
    arguments = list(settings)
    if config:
        (top / "my.yaml").write_text(config)
        arguments += ["--config", str(top / "my.yaml")]
    assert cli.main(["configure", str(source), *arguments, "-o", str(changed)]) == 0
    loaded = firmware.load(changed, "cm4", top)
    return MachineOptions(
        sd=Drive(size_bytes=SD_SIZE),
        nvme=(Drive(size_bytes=NVME_SIZE),),
        kernel=loaded.kernel,
        rootfs=loaded.initramfs,
        cmdline=loaded.cmdline,
    )


def shell_of_the_host(board: Board) -> None:
    """Wait until the emulator's own channel answers."""
    board.host.wait_until_ready(BOOT_S)


def gives_no_shell(board: Board) -> None:
    """Nothing runs that would let anybody in, and the UART answers no key."""
    status, said = board.host.run(GIVES_A_SHELL)
    assert status == 1, said
    assert board.host.check("grep ^root: /etc/passwd").startswith("root:!:")
    since = board.uart.line.position
    board.uart.line.send(b"\nroot\n\n")
    # A getty would be there again within a second of having been left out by chance.
    board.host.check("sleep 2")
    assert "ogin:" not in board.uart.line.text()
    assert "#" not in board.uart.line.text(since)


def test_settings_lock_that_fits_and_password_are_what_the_board_has(
    bench: Bench, tmp_path: Path
) -> None:
    options = made(
        tmp_path,
        *("--for", "*a1b2c3d4", "--hostname", "bench-7", "--root-password", HASH),
        *("--cmdline-add", "from.boot_img=1"),
        pack=zstandard.ZstdCompressor(level=1).compress,
        config=NVME_ONLY,
    )
    board = bench.boot("bootimg", options, login=False)
    shell_of_the_host(board)
    (block,) = board.host.wait_for_blocks(1)
    assert block.size_bytes == NVME_SIZE
    assert block.ro
    line, since = board.uart.line, 0
    _, since = line.expect("bench-7 login: ", BOOT_S)
    footer = "grep -o 'log in on .*root[a-z, ]*' /dev/vcs1"
    told = until("the login on HDMI", lambda: board.host.run(footer)[1].rstrip())
    assert told == "log in on the UART or with Alt+F2: root"
    line.send(b"root\n")
    _, since = line.expect("Password: ", WAIT_S, since)
    line.send(b"secret\n")
    line.expect(r"bench-7:\S+# ", WAIT_S, since)
    line.send(b"cat /proc/cmdline\n")
    line.expect("from.boot_img=1", WAIT_S, since)


def test_without_a_login_the_disks_are_there_and_no_shell_is(bench: Bench, tmp_path: Path) -> None:
    options = made(tmp_path, "--no-login", pack=lambda root: gzip.compress(root, 1))
    board = bench.boot("bootimg-no-login", options, login=False)
    shell_of_the_host(board)
    blocks = board.host.wait_for_blocks(2)
    assert sorted(block.size_bytes for block in blocks) == [SD_SIZE, NVME_SIZE]
    gives_no_shell(board)

    def shown() -> str:
        return board.host.check("cat /dev/vcs1")

    until("the disks on HDMI", lambda: "2 disks exported" in shown())
    assert "log in" not in shown()


def test_a_board_that_is_locked_out_exports_nothing_and_says_so(
    bench: Bench, tmp_path: Path
) -> None:
    options = made(
        tmp_path,
        *("--for", "100000000badcafe", "*0001", "--no-login"),
        pack=lambda root: lzma.compress(root, preset=0, check=lzma.CHECK_CRC32),
    )
    board = bench.boot("bootimg-locked", options, login=False)
    shell_of_the_host(board)
    sentences = ("locked to other boards", "10000000a1b2c3d4")
    for text in sentences:
        board.uart.line.expect(re.escape(text), BOOT_S)

    def on_screen() -> bool:
        shown = board.host.check("tr -s ' ' </dev/vcs1")
        return all(text in shown for text in sentences)

    until("both sentences on HDMI", on_screen)
    assert not board.host.blocks()
    assert board.host.check("cat /sys/class/udc/*/state").strip() == "not attached"
    gives_no_shell(board)
