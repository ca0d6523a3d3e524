"""What the first bind waits for: the list of all that is imported before it, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

OURS = """
    gadgetd gadgetd.blockscan gadgetd.board gadgetd.child gadgetd.cli gadgetd.config
    gadgetd.config.load gadgetd.config.settings gadgetd.configfs gadgetd.daemon gadgetd.disks
    gadgetd.disks.checkup gadgetd.disks.counters gadgetd.disks.dirty_limits gadgetd.disks.disk
    gadgetd.disks.hold gadgetd.disks.kernel_log gadgetd.errors gadgetd.eventloop gadgetd.export
    gadgetd.export.by_hand gadgetd.export.candidates gadgetd.export.choosing gadgetd.export.drive
    gadgetd.export.drives gadgetd.export.ending gadgetd.export.exporter gadgetd.export.lun_memory
    gadgetd.export.numbering gadgetd.export.outcome gadgetd.export.own_gadget gadgetd.export.plan
    gadgetd.export.reconnect gadgetd.export.retry gadgetd.frozen gadgetd.main gadgetd.show
    gadgetd.show.advice gadgetd.show.snapshot gadgetd.status gadgetd.sysfs gadgetd.usb
    gadgetd.usb.attributes gadgetd.usb.controllers gadgetd.usb.gadget gadgetd.usb.kernelfs
    gadgetd.usb.link gadgetd.usb.serial_login gadgetd.usb.steps
"""
"""Each costs the board milliseconds before the host has its disks: what is added needs a reason."""
HEAVY = """
    argparse asyncio ctypes dataclasses datetime hashlib inspect json logging pyudev random
    selectors shutil socket subprocess tempfile threading typing yaml
"""
"""Of these a start needs none."""

# Imports the daemon as `gadgetd run` does, then all that fakes a board. What that has brought is
# taken out again, so that what the start asks for before the bind is imported anew, and is seen.
CODE = f"""
import sys
from pathlib import Path
import gadgetd.cli, gadgetd.main
gadgetd.main.run = lambda config: None
assert gadgetd.cli.main(["run"]) == 0
mine = set(sys.modules)
import pytest
from tests.unit.fakes import Bench
bench = Bench(Path(sys.argv[1]), pytest.MonkeyPatch())
bench.add("mmcblk0")
bench.add("nvme0n1")
daemon = bench.daemon(start=False)
for name in set(sys.modules) - mine:
    if name.partition(".")[0] in {[*HEAVY.split(), "gadgetd"]}:
        del sys.modules[name]
daemon.start()
assert bench.bound, bench.tree
there = {{name for name in sys.modules if name.partition(".")[0] == "gadgetd"}}
print(*sorted(there))
print(*sorted({{*{HEAVY.split()}}} & (mine | (set(sys.modules) & {{*{HEAVY.split()}}}))))
"""


def test_before_the_first_bind_is_imported_what_is_listed_here(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", CODE, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
        check=False,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.stderr == ""
    ours, heavy = done.stdout.split("\n")[:2]
    assert ours.split() == sorted(OURS.split())
    assert heavy == ""
