"""How many mass_storage functions the disks are spread over: on a kernel in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from gadgetd.config.settings import Config, Usb
from gadgetd.configfs import ConfigFs
from gadgetd.export.outcome import Waits
from gadgetd.status import Life
from gadgetd.usb.gadget import NAME
from tests.fake_configfs import ROOT
from tests.unit.export.test_exporter import bring_up, fill, reconcile, start
from tests.unit.fakes import CONTROLLER, Bench

DISKS = tuple(f"nvme{n}n1" for n in range(12))
BIND, UNBIND = f"bind {CONTROLLER}", f"unbind {CONTROLLER}"


def config(functions: int | None = None, *, acm: bool = False, slots: int = 0) -> Config:
    usb = Usb(acm=acm) if functions is None else Usb(acm=acm, functions=functions)
    return Config(usb=usb, slots=slots)


def luns_each(bench: Bench) -> list[int]:
    """How many LUNs each function has that has any, in the gadget that stands."""
    gadget = ConfigFs(ROOT, bench.kernel).read_back(NAME)
    assert gadget is not None
    return [len(function.luns) for function in gadget.storage]


def be_a(driver: str, bench: Bench) -> None:
    """Have the controller's driver be known, as sysfs tells it."""
    device = bench.sys / "class" / "udc" / CONTROLLER / "device"
    device.mkdir()
    (device / "driver").symlink_to(Path("../../../bus/platform/drivers") / driver)


@pytest.mark.parametrize(
    ("disks", "acm", "slots", "each"),
    [
        (1, False, 0, [1]),
        (2, False, 0, [1, 1]),
        (2, True, 2, [1, 1, 1, 1]),
        (7, False, 0, [1] * 7),
        (8, False, 0, [2, 1, 1, 1, 1, 1, 1]),
        (10, False, 0, [2, 2, 2, 1, 1, 1, 1]),
        (5, True, 0, [1] * 5),
        (7, True, 0, [2, 2, 1, 1, 1]),
        (10, True, 0, [2, 2, 2, 2, 2]),
    ],
)
def test_dwc2_has_seven_functions_or_five_beside_the_serial_port(
    bench: Bench, disks: int, acm: bool, slots: int, each: list[int]
) -> None:
    be_a("dwc2", bench)
    fill(bench, *DISKS[:disks])
    exporter = start(bench, config(acm=acm, slots=slots))
    assert luns_each(bench) == each
    files = {n: DISKS[n] if n < disks else "" for n in range(disks + slots)}
    assert bench.files() == files
    assert bench.kernel.bus == [BIND], "nothing was tried in vain"
    assert exporter.gadget.note == "the only controller"


@pytest.mark.parametrize(("functions", "each"), [(1, [3]), (2, [2, 1]), (15, [1, 1, 1])])
def test_as_many_as_are_configured_at_most(bench: Bench, functions: int, each: list[int]) -> None:
    fill(bench, *DISKS[:3])
    start(bench, config(functions))
    assert luns_each(bench) == each


def test_more_than_dwc2_has_fifos_for_are_not_made_though_configured(bench: Bench) -> None:
    be_a("dwc2", bench)
    fill(bench, *DISKS[:8])
    start(bench, config(15))
    assert luns_each(bench) == [2, 1, 1, 1, 1, 1, 1]


def test_what_the_kernel_does_not_bind_is_tried_with_fewer_and_said(bench: Bench) -> None:
    bench.kernel.udcs[CONTROLLER].in_endpoints = 3
    fill(bench, *DISKS[:6])
    exporter = start(bench)
    assert luns_each(bench) == [2, 2, 2]
    assert bench.files() == dict(enumerate(DISKS[:6]))
    assert [drive.life for drive in exporter.drives.in_order] == [Life.WAITING] * 6
    assert all(drive.inserted for drive in exporter.drives.values())
    assert exporter.gadget.note == (
        "the only controller; mass_storage functions that it has endpoints for: 3"
    )
    assert bring_up(exporter, bench) is Waits.NOTHING
    assert bench.kernel.bus == [BIND]
    exporter.close()
    assert exporter.gadget.note == "the only controller"


def test_more_than_the_kernel_binds_may_be_configured(bench: Bench) -> None:
    bench.kernel.udcs[CONTROLLER].in_endpoints = 4
    fill(bench, *DISKS[:3])
    start(bench, config(3, acm=True))
    assert luns_each(bench) == [2, 1]


def test_a_late_disk_has_a_function_of_its_own(bench: Bench) -> None:
    fill(bench, *DISKS[:2])
    exporter = start(bench)
    bench.add(DISKS[2])
    assert bring_up(exporter, bench, may_disconnect=False) is Waits.IDLE
    assert luns_each(bench) == [1, 1]
    outcome = reconcile(exporter, bench)
    assert (outcome.error, outcome.waits, outcome.reconnected) == (None, Waits.NOTHING, True)
    assert luns_each(bench) == [1, 1, 1]
    assert bench.files() == dict(enumerate(DISKS[:3]))
    assert bench.kernel.bus == [BIND, UNBIND, BIND]


def test_a_late_disk_that_the_kernel_has_no_function_for_shares_one(bench: Bench) -> None:
    bench.kernel.udcs[CONTROLLER].in_endpoints = 2
    fill(bench, *DISKS[:2])
    exporter = start(bench)
    bench.add(DISKS[2])
    outcome = reconcile(exporter, bench)
    assert (outcome.error, outcome.waits, outcome.reconnected) == (None, Waits.NOTHING, True)
    assert luns_each(bench) == [2, 1]
    assert bench.files() == dict(enumerate(DISKS[:3]))
    assert exporter.gadget.note.endswith("mass_storage functions that it has endpoints for: 2")
    bench.add(DISKS[3])
    bring_up(exporter, bench)
    assert luns_each(bench) == [2, 2]


def test_a_controller_that_is_taken_is_no_reason_to_share_for_good(bench: Bench) -> None:
    fill(bench, *DISKS[:3])
    bench.kernel.udcs[CONTROLLER].in_endpoints = 0
    exporter = bench.exporter()
    exporter.prepare()
    for _ in range(2):
        outcome = reconcile(exporter, bench)
        assert outcome.error is not None
        assert "cannot carry so many functions" in outcome.error.message
    assert not exporter.udc
    assert not exporter.all_ejected
    assert [drive.life for drive in exporter.drives.in_order] == [Life.WAITING] * 3
    bench.kernel.udcs[CONTROLLER].in_endpoints = 7
    bring_up(exporter, bench)
    assert luns_each(bench) == [1, 1, 1]
    assert exporter.gadget.note == "the only controller"


def test_a_change_that_no_number_of_functions_makes_work_is_not_tried_for_ever(
    bench: Bench,
) -> None:
    fill(bench, *DISKS[:2])
    exporter = start(bench)
    bench.add(DISKS[2])
    bench.kernel.udcs[CONTROLLER].in_endpoints = 0
    for _ in range(4):
        reconcile(exporter, bench)
        bench.clock.now += 60
    tried = len(bench.kernel.bus)
    for _ in range(4):
        reconcile(exporter, bench)
        bench.clock.now += 60
    assert len(bench.kernel.bus) == tried


def test_more_luns_than_a_host_sees_of_the_functions_that_there_are_is_an_error(
    bench: Bench,
) -> None:
    bench.kernel.udcs[CONTROLLER].in_endpoints = 1
    fill(bench, *DISKS[:9])
    exporter = bench.exporter()
    exporter.prepare()
    outcome = reconcile(exporter, bench)
    assert outcome.error is not None
    assert "cannot carry so many functions" in outcome.error.message
    assert bench.kernel.bus == []


# What an earlier gadgetd has left: all LUNs in one function.


def old_shape(bench: Bench, disks: int, *, acm: bool = False) -> None:
    """Leave what a gadgetd that was killed had put into one function."""
    fill(bench, *DISKS[:disks])
    start(bench, config(1, acm=acm))
    assert luns_each(bench) == [disks]
    bench.kill()


@pytest.mark.parametrize("acm", [False, True])
def test_one_function_with_all_disks_is_taken_over_as_it_is(bench: Bench, acm: bool) -> None:
    old_shape(bench, 3, acm=acm)
    bench.host_ejects(1)
    exporter = start(bench, config(acm=acm))
    assert bench.files() == {0: DISKS[0], 1: "", 2: DISKS[2]}
    assert [drive.inserted for drive in exporter.drives.in_order] == [True, False, True]
    # What needs no new connection is done in it.
    exporter.drives.insert(exporter.drives[1])
    assert bring_up(exporter, bench, config(acm=acm), may_disconnect=False) is Waits.NOTHING
    assert bench.files() == dict(enumerate(DISKS[:3]))
    assert luns_each(bench) == [3]
    assert bench.kernel.bus == [BIND]


def test_the_next_disk_gives_each_its_own_function_once_the_host_lets_go(bench: Bench) -> None:
    old_shape(bench, 3)
    bench.add(DISKS[3])
    exporter = bench.exporter()
    exporter.prepare()
    assert bring_up(exporter, bench, may_disconnect=False) is Waits.IDLE
    assert bench.files() == dict(enumerate(DISKS[:3]))
    assert luns_each(bench) == [3]
    assert bench.kernel.bus == [BIND]
    assert bring_up(exporter, bench) is Waits.NOTHING
    assert bench.files() == dict(enumerate(DISKS[:4]))
    assert luns_each(bench) == [1, 1, 1, 1]


def test_another_number_of_functions_waits_until_the_host_lets_go(bench: Bench) -> None:
    fill(bench, *DISKS[:3])
    exporter = start(bench)
    assert bring_up(exporter, bench, config(2), may_disconnect=False) is Waits.IDLE
    assert luns_each(bench) == [1, 1, 1]
    assert bring_up(exporter, bench, config(2)) is Waits.NOTHING
    assert luns_each(bench) == [2, 1]
    assert bench.files() == dict(enumerate(DISKS[:3]))


def test_stop_and_start_give_each_its_own_function(bench: Bench) -> None:
    old_shape(bench, 3)
    exporter = start(bench)
    exporter.close()
    bring_up(exporter, bench)
    assert luns_each(bench) == [1, 1, 1]
