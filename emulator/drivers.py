"""Which drivers of a running kernel have a device, and those that a BCM2711 has to have."""

from collections.abc import Iterable

LIST = (
    "for bus in /sys/bus/*; do for driver in $bus/drivers/*; do for device in $driver/*; do"
    " [ ${device##*/} = module ] || [ ! -e $device/uevent ] ||"
    ' echo "${bus##*/} ${driver##*/} ${device##*/}"; done; done; done'
)
"""Shell command: a line with bus, driver and device for each that is bound."""

# Those that a board which is a disk for a minute lives from, as far as QEMU's raspi4b has devices
# for them: what was bound when this was written. One that is lost is a fault of the kernel's
# configuration, of the device tree, or of the model.
BCM2711 = tuple(
    line.strip()
    for line in """
    amba uart-pl011 fe201000.serial
    mmc mmcblk mmc
    platform bcm2835-aux-clk fe215000.aux
    platform bcm2835-aux-uart fe215040.serial
    platform bcm2835-clk fe101000.cprman
    platform bcm2835-dma fe007000.dma
    platform bcm2835-mbox fe00b880.mailbox
    platform bcm2835-pm fe100000.watchdog
    platform bcm2835-wdt bcm2835-wdt
    platform dwc2 fe980000.usb
    platform leds-gpio leds
    platform pinctrl-bcm2835 fe200000.gpio
    platform raspberrypi-clk soc:firmware:clocks
    platform raspberrypi-cpufreq raspberrypi-cpufreq
    platform raspberrypi-firmware soc:firmware
    platform raspberrypi-power soc:power
    platform sdhci-iproc fe340000.mmc
    platform simple-framebuffer 3c100000.framebuffer
    platform usb_phy_generic phy
    """.strip().splitlines()
)


def lost(said: str, wanted: Iterable[str] = BCM2711) -> list[str]:
    """Those of `wanted` that LIST has not said; each is the begin of a line."""
    bound = said.splitlines()
    return [line for line in wanted if not any(each.startswith(line) for each in bound)]
