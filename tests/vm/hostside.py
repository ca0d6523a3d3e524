"""What the tests have the USB host do. It runs on the emulated board; tests/vm/living.py calls it.

Usage: python3 hostside.py STEP [then STEP]..., of which a STEP is one of
    traffic DEVICE FIRST COUNT STOP     write, read and compare until the file STOP is there
    write DEVICE FIRST COUNT GENERATION write chunks past the host's cache, without any flush
    eject DEVICE                        as eject(1) does, which has the gadget flush
    drop DEVICE                         eject and nothing else
    bridge TERMINAL PORT                carry bytes between a terminal and a port out of the board
    plug CONTROLLER                     a cable between CONTROLLER (usbip-vudc) and this host
"""

from __future__ import annotations

import array
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import sys
import termios
import tty
from pathlib import Path

CHUNK = 1 << 16
"""Bytes of a chunk, the unit of traffic. Chunks of a disk count from 0."""
WRITES_A_READ = 3
TOO_MANY = 10

SG_IO = 0x2285
SG_IO_HDR = struct.Struct("@iiBBHIPPPIIiPBBBBHHiII")
"""sg_io_hdr_t, source: include/scsi/sg.h."""
SG_DXFER_NONE, SG_DXFER_TO_DEV = -1, -2
TIMEOUT_MS = 20_000

ALLOW_MEDIUM_REMOVAL = bytes([0x1E, 0, 0, 0, 0, 0])
EJECT = bytes([0x1B, 0, 0, 0, 0x02, 0])
"""START STOP UNIT with LoEj set and Start clear (source: SBC-3, 5.25)."""
WRITE = struct.Struct(">BBIBHB")
"""WRITE(10): operation code 0x2A, flags, first block, group, blocks, control (SBC-3, 5.33)."""
BLOCK = 512
VHCI = "/sys/devices/platform/vhci_hcd.0"


def chunk(number: int, generation: int) -> bytes:
    """Content of a chunk written for the `generation`-th time: no two are alike."""
    return struct.pack("<QQ", number, generation) * (CHUNK // 16)


def traffic(device: str, first: int, count: int, stop: str) -> dict[str, object]:
    """Write and read chunks of a disk, past the host's cache, until the file `stop` is there.

    Returns how often each chunk was written, and what went wrong: an error for each `failed`
    chunk, of which nobody knows what it is. Ends with a flush. Touches `stop`.begun once it has
    written and read.
    """
    fd = os.open(device, os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, CHUNK)
    generations = [0] * count
    failed: list[int] = []
    errors: list[str] = []
    reads = step = 0

    def check(number: int) -> None:
        os.preadv(fd, [buffer], (first + number) * CHUNK)
        if buffer[:] != chunk(first + number, generations[number]):
            errors.append(f"chunk {first + number} is not what was written")

    while not Path(stop).exists() and len(errors) < TOO_MANY:
        number, generation = step % count, step // count + 1
        buffer[:] = chunk(first + number, generation)
        try:
            os.pwrite(fd, buffer, (first + number) * CHUNK)
            generations[number] = generation
            if step % WRITES_A_READ == 0:
                check((step * 7) % min(count, step + 1))
                reads += 1
        except OSError as error:
            errors.append(f"step {step}: {error}")
            failed.append(first + number)
        step += 1
        if step == WRITES_A_READ + 1:
            Path(f"{stop}.begun").touch()
    try:
        os.fsync(fd)
    except OSError as error:
        errors.append(f"fsync: {error}")
    return {"generations": generations, "reads": reads, "errors": errors, "failed": failed}


def scsi(fd: int, command: bytes, data: bytes = b"") -> None:
    """Have a disk carry out a command, with data for it. Raises OSError with the sense, in hex."""
    cdb, sense = array.array("B", command), array.array("B", bytes(32))
    buffer = array.array("B", data)
    header = bytearray(SG_IO_HDR.size)
    direction = SG_DXFER_TO_DEV if data else SG_DXFER_NONE
    addresses = (each.buffer_info()[0] for each in (buffer, cdb, sense))
    SG_IO_HDR.pack_into(
        header, 0, ord("S"), direction, len(command), 32, 0, len(data), *addresses,
        TIMEOUT_MS, *[0] * 12,
    )  # fmt: skip
    fcntl.ioctl(fd, SG_IO, header)
    status, host = SG_IO_HDR.unpack(header)[13], SG_IO_HDR.unpack(header)[17]
    if status or host:
        said = sense.tobytes()[:18].hex()
        raise OSError(f"SCSI command {command.hex()}: status {status}, {host}, sense {said}")


def passing(device: str) -> int:
    """Open a disk's second door. Through the first, Linux locks the medium as long as it is open,
    and has the gadget flush when it unlocks it: other hosts do not.
    """
    (entry,) = Path(f"/sys/block/{Path(device).name}/device/scsi_generic").iterdir()
    return os.open(f"/dev/{entry.name}", os.O_RDWR)


def write(device: str, first: int, count: int, generation: int) -> None:
    """Write chunks, without any flush: the bytes are in the board's RAM then."""
    fd = passing(device)
    blocks = CHUNK // BLOCK
    for number in range(first, first + count):
        command = WRITE.pack(0x2A, 0, number * blocks, 0, blocks, 0)
        scsi(fd, command, chunk(number, generation))


def eject(device: str) -> None:
    """Eject as eject(1) of util-linux does it: opening the disk has locked it."""
    fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    scsi(fd, ALLOW_MEDIUM_REMOVAL)
    scsi(fd, EJECT)


def plug(controller: str) -> None:
    """Connect a usbip-vudc to this host; a detach in vhci_hcd's sysfs cuts the cable.

    Unlike dummy_hcd's, this controller notices when the cable is cut. The two kernel ends keep the
    sockets. Source: drivers/usb/usbip/vudc_sysfs.c and vhci_sysfs.c.
    """
    ours, theirs = socket.socketpair()
    board = Path(f"/sys/devices/platform/{controller}/usbip_sockfd")
    board.write_text(str(ours.fileno()))
    speed = 3  # USB_SPEED_HIGH
    Path(f"{VHCI}/attach").write_text(f"0 {theirs.fileno()} 1 {speed}")


def bridge(terminal: str, port: str) -> None:
    """Carry bytes both ways until the terminal is gone, with its cable."""
    ends = os.open(terminal, os.O_RDWR | os.O_NOCTTY), os.open(port, os.O_RDWR)
    tty.setraw(ends[0], termios.TCSAFLUSH)
    print("open", flush=True)
    while True:
        for ready in select.select(ends, (), ())[0]:
            try:
                os.write(ends[ready == ends[0]], os.read(ready, 4096))
            except OSError:
                return


def step(what: str, device: str, *more: str) -> None:
    """Do one step of the command line."""
    if what == "traffic":
        first, count, stop = more
        print(json.dumps(traffic(device, int(first), int(count), stop)))
    elif what == "write":
        write(device, *map(int, more))
    elif what == "eject":
        eject(device)
    elif what == "bridge":
        bridge(device, *more)
    elif what == "plug":
        plug(device)
    elif what == "drop":
        scsi(passing(device), EJECT)


if __name__ == "__main__":
    for words in " ".join(sys.argv[1:]).split(" then "):
        step(*words.split())
