"""What each driver tells of the same cable, and what gadgetd says of it: docs/kernel.md's table."""

from __future__ import annotations

import pytest

from gadgetd.show.advice import PATIENCE_S
from tests.unit.fakes import CONTROLLER, Bench
from tests.unit.test_daemon import advice, boot

NO_HOST = "no host: no USB cable, or the PC is off"
NOT_SET_UP = "no host has set this board up (state: default)"
ASLEEP = "suspended: the host is asleep, or the cable is out"
ONCE = "the connection was interrupted once"

ROWS = {
    # Situation and driver: state and `suspended`, a step after the other, and what is said then.
    ("no cable", "usbip-vudc"): ("not attached 0", NO_HOST),
    ("no cable", "dwc2"): ("not attached 0", NO_HOST),
    ("reset", "dummy_udc"): ("configured 0, default 0, configured 0", ONCE),
    ("reset", "usbip-vudc"): ("configured 0", ""),
    ("reset", "dwc2"): ("configured 0, not attached 0, configured 0", ""),
    ("configured", "dummy_udc"): ("configured 0", ""),
    ("configured", "usbip-vudc"): ("configured 0", ""),
    ("configured", "dwc2"): ("configured 0", ""),
    ("asleep", "dummy_udc"): ("configured 0, configured 1", ASLEEP),
    ("asleep", "usbip-vudc"): ("configured 0", ""),
    ("asleep", "dwc2"): ("configured 0, configured 1", ASLEEP),
    ("pulled", "dummy_udc"): ("configured 0", ""),
    ("pulled", "usbip-vudc"): ("configured 0, default 0", NOT_SET_UP),
    ("pulled", "dwc2"): ("configured 0, not attached 0", NO_HOST),
    ("pulled, and no interrupt", "dwc2"): ("configured 0, configured 1", ASLEEP),
}


@pytest.mark.parametrize(("situation", "driver"), ROWS)
def test_the_words_say_no_more_than_the_driver_tells(
    bench: Bench, situation: str, driver: str
) -> None:
    suspended = bench.sys / "class" / "udc" / CONTROLLER / "device" / "gadget.0" / "suspended"
    suspended.parent.mkdir(parents=True)
    suspended.write_text("0\n")
    bench.plugged = False
    daemon = boot(bench, "mmcblk0")
    bench.traffic("mmcblk0", read=4096)  # The host has opened it.
    bench.loop.run_for(1)
    steps, expected = ROWS[situation, driver]
    state = ""
    for state, _, asleep in (step.rpartition(" ") for step in steps.split(", ")):
        bench.host_state(state)
        suspended.write_text(f"{asleep}\n")
        bench.loop.run_for(0.7)
    bench.loop.run_for(PATIENCE_S + 1)
    if expected:
        assert expected in advice(daemon)
    else:
        assert advice(daemon) == ""
    controller = daemon.status.controller
    assert controller
    told = "suspended" if expected == ASLEEP else state
    assert controller.state == told
