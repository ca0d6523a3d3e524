"""Where the start's time goes, read from -X importtime; what idleness costs; sizes."""

from __future__ import annotations

import pytest

from bench import idle, size, where
from emulator import EmulatorError

TRACE = """\
import time: self [us] | cumulative | imported package
import time:      1000 |       1000 |   encodings.aliases
import time:      2000 |       3000 | encodings
import time:      4000 |       4000 |     inspect
import time:      5000 |       9000 |   dataclasses
import time:      6000 |       6000 |   gadgetd.disk
import time:      7000 |      22000 | gadgetd.config
import time:      8000 |       8000 |       struct
import time:      9000 |      17000 |     ctypes
import time:     10000 |      27000 |   pyudev
import time:     11000 |      11000 |   heapq
import time:     12000 |      50000 | gadgetd.blockscan
"""


def test_depth_and_own_time_are_read() -> None:
    found = where.imports(TRACE)
    assert found[0] == ("encodings.aliases", 1.0, 1)
    assert found[-1] == ("gadgetd.blockscan", 12.0, 0)


def test_a_module_is_counted_with_the_one_that_asked_for_it() -> None:
    assert where.shares(where.imports(TRACE)) == {
        "pyudev, with ctypes and what else it brings": 27.0,
        "gadgetd's own modules": 25.0,
        where.REST: 11.0,
        "dataclasses, with inspect": 9.0,
        "Python itself, with site": 3.0,
    }


def test_no_import_is_lost() -> None:
    found = where.imports(TRACE)
    assert sum(where.shares(found).values()) == sum(module.self_ms for module in found)


def test_wake_ups_and_cpu_are_rates() -> None:
    before = idle.Sample.of("93 100 2000000000 50.00 80.00")
    after = idle.Sample.of("93 160 2030000000 80.00 140.00")
    assert idle.rates(before, after) == pytest.approx((2.0, 0.1))


def test_a_daemon_that_was_started_anew_gives_no_rate() -> None:
    before, after = (idle.Sample.of(f"{pid} 1 1 1.0") for pid in (93, 94))
    with pytest.raises(EmulatorError, match="started anew"):
        idle.rates(before, after)


def test_the_images_sizes_become_rows() -> None:
    mib = 1 << 20
    rootfs = {"usr/lib/python3.14/os.pyc": 3 * mib, "bin/busybox": mib}
    rows = size.rows({"boot.img": 9 * mib, "boot": {}, "rootfs": rootfs})
    assert [(row.name, row.gadgetd) for row in rows] == [
        ("size: boot.img", (9.0,)),
        ("size: root file system, uncompressed", (4.0,)),
        ("size: its Python part", (3.0,)),
    ]
    assert rows[0].met is True
