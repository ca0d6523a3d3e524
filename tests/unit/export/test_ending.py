"""What is said when exporting ends, by `gadgetd stop`, SIGTERM or a shutdown, and begins again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from gadgetd.show.events import Event, events
from gadgetd.status import Phase
from gadgetd.usb.link import GONE_S
from tests.fake_configfs import ROOT, GadgetGroup
from tests.unit.fakes import Bench

ALARMS = ("controller", "host", "disk_removed")


def said(bench: Bench, since: int = 0) -> list[Event]:
    """All that the UART says of the statuses from this one on."""
    shown = bench.panel.statuses[max(since - 1, 0) :]
    return [event for old, new in pairwise(shown) for event in events(old, new)]


def test_a_stop_is_no_alarm(bench: Bench) -> None:
    bench.add("mmcblk0")
    bench.add("sda", refusal="mounted at /mnt")
    daemon = bench.daemon()
    bench.unplug()
    bench.loop.run_for(GONE_S)  # Before that it may be a reset.
    bench.loop.settle()
    before = len(bench.panel.statuses)
    daemon.stop(lambda: None)
    bench.loop.settle()
    assert daemon.status.safe_to_unplug
    told = [event.fields["event"] for event in said(bench, before)]
    assert not set(told) & set(ALARMS)
    assert said(bench, before)[-1].text == "SAFE TO UNPLUG"


def test_a_stop_whose_last_step_takes_long_is_no_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add("mmcblk0")
    daemon = bench.daemon()
    busy, gadget = bench.kernel._is_busy, bench.kernel.group(ROOT / "usb_gadget/gadgetd")
    assert isinstance(gadget, GadgetGroup)

    def slow(path: Path) -> bool:
        """The host has been disconnected already; the board alone is slow."""
        return (path.name == "UDC" and not gadget.udc) or busy(path)

    monkeypatch.setattr(bench.kernel, "_is_busy", slow)
    ended: list[bool] = []
    daemon.stop(lambda: ended.append(True))
    bench.loop.settle()
    assert (ended, daemon.status.problem) == ([], None)
    monkeypatch.undo()
    bench.kernel.thread_goes_on()
    bench.loop.settle()
    assert (ended, daemon.status.problem) == ([True], None)
    assert daemon.status.phase is Phase.STOPPED
    assert bench.kernel.tree() == []


def test_a_start_tells_disks_controller_and_host_anew(bench: Bench) -> None:
    bench.add("mmcblk0")
    daemon = bench.daemon()
    daemon.stop(lambda: None)
    bench.loop.settle()
    before = len(bench.panel.statuses)
    daemon.resume()
    bench.loop.settle()
    told = [(event.fields["event"], event.fields.get("phase")) for event in said(bench, before)]
    assert {name for name, _ in told} >= {"controller", "host", "disk"}
    # Nothing is wrong with a configuration that has not been read yet.
    assert ("phase", "config-error") not in told


def test_the_end_of_a_stopped_daemon_takes_no_word_back(bench: Bench) -> None:
    # As on poweroff: init's `gadgetd stop` first, then SIGTERM to all.
    bench.add("mmcblk0")
    daemon = bench.daemon()
    bench.unplug()
    bench.loop.run_for(GONE_S)  # Before that it may be a reset.
    bench.loop.settle()
    daemon.stop(lambda: None)
    bench.loop.settle()
    before = len(bench.panel.statuses)
    daemon.stop(bench.loop.stop)
    bench.loop.settle()
    assert len(bench.panel.statuses) == before
    assert daemon.status.safe_to_unplug
    assert daemon.status.phase is Phase.STOPPED
    assert not daemon.shutdown.stop.under_way


def test_what_was_wrong_before_a_stop_and_is_after_the_start_is_not_called_over(
    bench: Bench,
) -> None:
    bench.add("mmcblk0")
    daemon = bench.daemon()
    bench.configure("slot: 2\n")
    daemon.reload()
    daemon.stop(lambda: None)
    bench.loop.settle()
    daemon.resume()
    bench.loop.settle()
    troubles = [event for event in said(bench) if event.fields.get("key") == "slot"]
    assert not [event.text for event in troubles if event.text.startswith("over:")]
    assert troubles[-1].fields["event"] == "problem"
    assert troubles[-1].fields["active"] is True
    # A program that keeps account sees that the advice has ended.
    assert [e.fields["active"] for e in troubles if e.fields["event"] == "advice"] == [True, False]
