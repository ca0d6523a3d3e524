"""The promises that the unit tests' fake configfs keeps are kept by the kernel's as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from emulator import MachineOptions
from tests.contract import configfs_contract, faulty
from tests.vm.board import Board

pytestmark = pytest.mark.emulated

HOME = "/root/contract"
LIMIT_S = 480


def test_the_kernels_configfs_keeps_every_promise(boot: Callable[..., Board]) -> None:
    sources = (Path(configfs_contract.__file__), Path(faulty.__file__))
    files: dict[str, bytes | Path] = {
        f"{HOME}/tests/contract/{source.name}": source for source in sources
    }
    files |= {f"{HOME}/tests/__init__.py": b"", f"{HOME}/tests/contract/__init__.py": b""}
    board = boot(MachineOptions(udcs=2, files=files))
    board.expect_phase("waiting-for-disks")
    board.check("gadgetd stop")
    board.check("modprobe -a loop && modprobe null_blk nr_devices=2 gb=1")
    status, said = board.run(
        f"cd {HOME} && python3 -B -m tests.contract.configfs_contract"
        " --disk /dev/nullb0 --disk /dev/nullb1"
        " --udc dummy_udc.0 --udc dummy_udc.1 --empty /dev/loop0",
        LIMIT_S,
    )
    told = [line.split() for line in said.splitlines() if line]
    kept = {words[1] for words in told if words[0] == "ok"}
    promised = {promise.__name__ for promise in configfs_contract.PROMISES}
    assert promised - kept == set(), said
    assert status == 0
    assert board.check("ls /sys/kernel/config/usb_gadget").split() == []
