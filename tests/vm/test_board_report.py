"""`make board-report` on emulated boards, with somebody who does what a person is asked for."""

from __future__ import annotations

import itertools
import json
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from emulator import Drive, HostShell, Machine, MachineOptions, Raspi4b, door
from tests.bench import __main__ as command
from tests.bench.person import YES
from tests.bench.report import FAILED, PASSED
from tests.bench.walk import KEYS, STEPS
from tests.vm.board import until
from tests.vm.conftest import Bench

pytestmark = [pytest.mark.emulated, pytest.mark.long]

MIB = 1 << 20
PORT = "/sys/devices/platform/dummy_hcd.0/usb*/*/usb*-port1"
"""The host's port, which can be without power: to both ends that is a cable that is out."""


class Person:
    """Switches the emulated board on, pulls its cable and plugs it in, looks at it from outside."""

    def __init__(self, machine: Machine, host: HostShell) -> None:
        self._machine, self._host = machine, host
        self.asked: list[str] = []

    def answer(self, key: str, request: str) -> str:
        """Do it, or wait until it is to be seen."""
        assert request
        self.asked.append(key)
        asked_at = time.time()
        look = {
            "screen": lambda: "mmcblk0" in self._host.check("cat /dev/vcs1"),
            "led": lambda: self._machine.led_changes()[-1][1],
            "blink": lambda: self._blinks(asked_at),
            "dark": lambda: not self._machine.running,
        }
        if key == "power":
            self._machine.go()
        elif key in ("pull", "plug"):
            out = 1 if key == "pull" else 0
            self._host.check(f"for port in {PORT}; do echo {out} >$port/disable; done")
        elif key in look:
            until(request, look[key])
        return YES

    def _blinks(self, since: float) -> bool:
        """Whether the LED has been on or off for about a second twice since it was asked."""
        begin = self._machine.started_at
        times = [at for at, _ in self._machine.led_changes() if begin + at > since]
        lengths = [later - at for at, later in itertools.pairwise(times)]
        return sum(0.7 < length < 2 for length in lengths) >= 2


def machine_of(kind: str) -> Machine:
    sd = Drive(16 * MIB)
    if kind == "raspi4b":
        return Raspi4b(MachineOptions(sd=sd), "bcm2711-rpi-4-b")
    return Machine(MachineOptions(sd=sd, nvme=(Drive(20 * MIB),)))


@pytest.mark.parametrize("kind", ["virt", "raspi4b"])
def test_every_step_is_walked_from_power_on_to_poweroff(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    bench.switch_off()
    kept = bench.directory(f"board-report-{kind}")
    with machine_of(kind) as machine, closing(HostShell(machine.host_path)) as host:
        person = Person(machine, host)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr(command, "Terminal", lambda: person)
        arguments = ["--board", machine.uart_path, "--emulated", machine.directory.name]
        with door.opened(host, machine.directory):
            status = command.main([*arguments, "--out", str(kept), "--name", "it", "--pulls", "2"])
    report = json.loads((kept / "it.json").read_text())
    steps = {step["step"]: step for step in report["steps"]}
    assert [*steps] == [step.key for step in STEPS]
    assert {*person.asked} == {*KEYS}
    for key in {*steps} - {"clocks"}:
        assert steps[key]["status"] == PASSED, f"{key}: {steps[key]['text']}"
    assert status == (1 if steps["clocks"]["status"] == FAILED else 0)
    power_on = steps["power_on"]["figures"]
    assert 0 < power_on["first_byte_s"] <= power_on["first_disk_s"]
    assert "@gadgetd" in steps["login"]["texts"]["The UART"]
    assert len(steps["pulls"]["figures"]["disks_back_s"]) == 2
    assert "class 08 subclass 06 protocol 50" in "".join(steps["descriptors"]["texts"].values())
    if kind == "virt":
        assert steps["clocks"]["text"] == "the kernel has no cpufreq for this CPU"
        assert steps["model"]["text"] == "Raspberry Pi Compute Module 4 Rev 1.1"
        assert [*steps["disks"]["figures"]["disks"]] == ["mmcblk0", "nvme0n1"]
    else:
        assert steps["model"]["text"] == "Raspberry Pi 4 Model B"
        assert "platform sdhci-iproc" in steps["drivers"]["texts"]["Bus, driver, device"]
    nothing_that_should_not_go_out(kept)


def nothing_that_should_not_go_out(kept: Path) -> None:
    for file in (kept / "it.json", kept / "it.md"):
        text = file.read_text()
        assert "10000000a1b2c3d4" not in text
        assert "…c3d4" in text
        assert all(character == "\n" or character.isprintable() for character in text)
