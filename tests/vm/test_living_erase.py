"""`gadgetd erase`: what is on the medium afterwards, and which disks it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator import Drive, MachineOptions
from tests.vm.board import WAIT_S, Board
from tests.vm.conftest import Bench
from tests.vm.living import MIB, no_daemon

pytestmark = pytest.mark.emulated

SIZE = 32 * MIB
SECRET = b"a secret of sixteen" * 1000


def discarding_disk(image: Path) -> tuple[str, ...]:
    """QEMU's options for an NVMe disk that forgets what is discarded; its others do not."""
    image.write_bytes(SECRET)
    with image.open("r+b") as file:
        file.truncate(SIZE)
        file.seek(SIZE - len(SECRET))
        file.write(SECRET)
    return (
        *("-blockdev", "driver=raw,node-name=forgets,discard=unmap,file.driver=file,"
          f"file.discard=unmap,file.filename={image}"),
        *("-device", "pcie-root-port,id=forgetport,chassis=50,slot=50"),
        *("-device", "nvme,id=forgets,bus=forgetport,drive=forgets,serial=FORGETS"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("erase") / "forgets.img"


@pytest.fixture(scope="module")
def board(bench: Bench, image: Path) -> Iterator[Board]:
    options = MachineOptions(
        sd=Drive(SIZE), nvme=(Drive(SIZE),), qemu_arguments=discarding_disk(image)
    )
    board = bench.boot("living_erase", options)
    board.expect_phase("exported")
    yield board
    bench.switch_off()


@pytest.fixture
def stopped(board: Board) -> Iterator[Board]:
    board.host.wait_for_blocks(3, WAIT_S)
    board.check("gadgetd stop")
    yield board
    board.check("gadgetd start")


def name_of(board: Board, serial: str) -> str:
    """The kernel's name for the NVMe disk with this serial number."""
    return board.check(f"grep -l {serial} /sys/block/nvme*/device/serial").split("/")[3]


def erases(board: Board, name: str, typed: str = "") -> tuple[int, str]:
    """Erase a disk, by typing or with --yes: the exit code and what was said."""
    how = f"echo {typed} | gadgetd erase {name}" if typed else f"gadgetd erase --yes {name}"
    return board.run(how)


def test_a_disk_that_is_exported_is_not_erased(board: Board, image: Path) -> None:
    board.host.wait_for_blocks(3, WAIT_S)
    code, said = erases(board, name_of(board, "FORGETS"))
    assert code == 1
    assert "it is exported, and a host may have it" in said
    assert SECRET in image.read_bytes()
    # Nor through the board's own view of its gadget, where there is one.
    assert erases(board, "sda")[0] == 1


def test_another_name_typed_or_a_mount_leaves_the_disk_as_it_is(
    stopped: Board, image: Path
) -> None:
    name = name_of(stopped, "FORGETS")
    code, said = erases(stopped, name, typed="mmcblk0")
    assert code == 1
    assert "nothing was changed" in said
    other = name_of(stopped, "nvme-0")
    stopped.check(
        f"mkdosfs /dev/{other} && mkdir -p /mnt/data && mount -t vfat /dev/{other} /mnt/data"
    )
    code, said = erases(stopped, other)
    stopped.check("umount /mnt/data")
    assert code == 1
    assert "mounted at /mnt/data" in said
    # Held by a program that nobody sees in /proc/mounts.
    holder = (
        "import os, time; os.open('/dev/NAME', os.O_RDONLY | os.O_EXCL); print('held', flush=True);"
        " time.sleep(1000)"
    ).replace("NAME", name)
    stopped.check(f'python3 -c "{holder}" >/tmp/held & until grep -q held /tmp/held; do :; done')
    code, said = erases(stopped, name)
    stopped.check("kill $!")
    assert code == 1
    assert "in use on the board" in said
    assert SECRET in image.read_bytes()


def test_a_disk_is_erased_once_its_name_was_typed(stopped: Board, image: Path) -> None:
    name = name_of(stopped, "FORGETS")
    code, said = erases(stopped, name, typed=name)
    assert code == 0, said
    assert f"{name}: 33.6 MB discarded in" in said
    assert "its first and last MiB read as zeros now" in said
    assert "no proof that the data is gone" in said
    assert image.read_bytes() == bytes(SIZE)


def test_a_disk_that_keeps_what_is_discarded_is_not_called_empty(stopped: Board) -> None:
    name = name_of(stopped, "nvme-0")
    stopped.check(f"echo secret | dd of=/dev/{name} conv=fsync 2>/dev/null")
    code, said = erases(stopped, name)
    assert code == 0, said
    assert "its first or last MiB can still be read" in said
    assert stopped.image_of(name).read_bytes().startswith(b"secret")


def test_without_a_daemon_it_works_as_well(board: Board, image: Path) -> None:
    name = name_of(board, "FORGETS")
    board.host.wait_for_blocks(3, WAIT_S)
    with no_daemon(board):
        board.check(f"echo secret | dd of=/dev/{name} conv=fsync 2>/dev/null")
        code, said = board.run(f"gadgetd.away erase --yes {name}")
    assert code == 0, said
    assert not any(image.read_bytes())
