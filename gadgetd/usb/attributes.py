"""The attributes of the gadget tree: a row each drives writing, reading back and documentation.

A new option is one row. Source: Documentation/ABI/testing/configfs-usb-gadget and
configfs-usb-gadget-mass-storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gadgetd.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Codec(Frozen):
    """How a value reads in an attribute: as the kernel prints it, which it takes as well."""

    show: Callable[[Any], str]
    parse: Callable[[str], Any]


TEXT = Codec(str, str)
HEX16 = Codec("0x{:04x}".format, lambda text: int(text, 16))
HEX8 = Codec("0x{:02x}".format, lambda text: int(text, 16))
NUMBER = Codec(str, int)
FLAG = Codec("{:d}".format, lambda text: text == "1")
FILE = Codec(lambda file: str(file or ""), lambda text: Path(text) if text else None)


class Attribute(Frozen):
    """One attribute: it carries a field of Gadget or Lun, or else always the same constant."""

    name: str
    codec: Codec
    field: str = ""
    constant: Any = None
    fleeting: bool = False
    """The kernel changes it by itself, so what it reads back says nothing."""

    def text(self, owner: object) -> str:
        """Give what is written for the Gadget or Lun that the attribute belongs to."""
        return self.codec.show(getattr(owner, self.field) if self.field else self.constant)


CONFIGURATION = Path("configs/c.1")
LANGUAGE = Path("strings/0x409")
"""US English, the language that every host asks for."""

GADGET_ROWS = (
    Attribute("idVendor", HEX16, "vendor_id"),  # USB vendor id
    Attribute("idProduct", HEX16, "product_id"),  # USB product id
    Attribute("bcdDevice", HEX16, "device_version"),  # release number, decimal digits
    # The kernel raises it to 2.1 or 3.2 when a host asks, as speed and power management demand
    # (source: composite_setup in drivers/usb/gadget/composite.c).
    Attribute("bcdUSB", HEX16, constant=0x0200, fleeting=True),  # USB 2.0
)
STRING_ROWS = (
    Attribute("manufacturer", TEXT, "manufacturer"),  # iManufacturer, 126 bytes of UTF-8 at most
    Attribute("product", TEXT, "product"),  # iProduct, likewise
    Attribute("serialnumber", TEXT, "serial"),  # iSerial, likewise
)
CONFIGURATION_ROWS = (
    Attribute("MaxPower", NUMBER, "max_power_ma"),  # current drawn from the bus, in mA
    Attribute("bmAttributes", HEX8, constant=0x80),  # powered by the bus, no remote wake-up
)
CONFIGURATION_STRING_ROWS = (
    Attribute("configuration", TEXT, constant="Disks"),  # iConfiguration, the name of the only one
)
FUNCTION_ROWS = (
    Attribute("stall", FLAG, constant=True),  # halt an endpoint where the protocol asks for it
)
# The order matters: with a file open `ro` and `cdrom` are refused, and cdrom=1 would set `ro`.
LUN_ROWS = (
    Attribute("cdrom", FLAG, constant=False),  # a disk, not a CD-ROM
    Attribute("ro", FLAG, "read_only"),  # the host may not write
    Attribute("removable", FLAG, constant=True),  # the host may eject it, and it may be empty
    Attribute("nofua", FLAG, constant=False),  # the host's Force Unit Access is honoured
    Attribute("inquiry_string", TEXT, "inquiry"),  # vendor (8), product (16), revision (4)
    Attribute("file", FILE, "file"),  # the disk's node; empty for none
)

TABLES: Mapping[Path, tuple[Attribute, ...]] = {
    Path(): GADGET_ROWS,
    LANGUAGE: STRING_ROWS,
    CONFIGURATION: CONFIGURATION_ROWS,
    CONFIGURATION / LANGUAGE: CONFIGURATION_STRING_ROWS,
}
"""What stands once in every gadget, by its place in the tree, parents first."""


def parse(rows: Iterable[Attribute], text: Callable[[str], str]) -> dict[str, Any]:
    """Give the fields of a Gadget or Lun that attributes carry; `text` reads one by its name.

    ValueError if one reads what we never write there.
    """
    found = {}
    for row in rows:
        if row.fleeting:
            continue
        value = text(row.name)
        if row.field:
            found[row.field] = row.codec.parse(value)
        elif value != row.text(None):
            raise ValueError(f"{row.name}: {value}")
    return found
