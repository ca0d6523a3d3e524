"""The kernel's log as the benchmark's clock."""

from __future__ import annotations

import pytest

from bench import kmsg

LOG = """\
[    4.045244] bench: init
[    4.663047] mmcblk0: mmc0:4567 QEMU! 64.0 MiB
a line of some other program
[    5.015184] nvme nvme0: 2/0/0 default/read/poll queues
[   10.522139] usb 1-1: new high-speed USB device number 2 using dummy_hcd
[   10.882258] sd 0:0:0:0: [sda] 131072 512-byte logical blocks: (67.1 MB/64.0 MiB)
[   11.860679] sd 0:0:0:0: [sda] Attached SCSI removable disk
[   12.074188] sd 0:0:0:1: [sdb] Attached SCSI removable disk
[   50.000000] usb 1-1: reset high-speed USB device number 2 using dummy_hcd
"""


def test_lines_have_their_times_and_others_are_left_out() -> None:
    stamps = kmsg.parse(LOG)
    assert len(stamps) == 8
    assert stamps[0] == (4.045244, "bench: init")


def test_disks_are_usable_when_the_last_of_them_is_attached() -> None:
    assert kmsg.last(kmsg.parse(LOG), kmsg.ATTACHED, 2) == 12.074188


def test_a_disk_that_never_came_is_an_error_and_no_number() -> None:
    with pytest.raises(kmsg.MissingLineError):
        kmsg.last(kmsg.parse(LOG), kmsg.ATTACHED, 3)


def test_the_hosts_first_sight_of_the_gadget_is_found() -> None:
    assert kmsg.first(kmsg.parse(LOG), kmsg.FOUND_BY_HOST) == 10.522139


def test_both_of_the_boards_own_disks_are_found() -> None:
    stamps = kmsg.parse(LOG)
    assert [stamp.at_s for stamp in kmsg.every(stamps, kmsg.DISK_THERE)] == [4.663047, 5.015184]


def test_only_what_came_later_counts_as_trouble() -> None:
    stamps = kmsg.parse(LOG)
    assert len(kmsg.every(kmsg.since(stamps, 12.1), kmsg.TROUBLE)) == 1
    assert kmsg.every(kmsg.since(stamps, 60), kmsg.TROUBLE) == []


def test_an_ordinary_enumeration_is_no_trouble() -> None:
    before_the_reset = kmsg.parse(LOG)[:-1]
    assert kmsg.every(before_the_reset, kmsg.TROUBLE) == []
