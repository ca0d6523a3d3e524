"""gadgetd exports a board's disks to a USB host as a mass-storage gadget."""

__version__ = "0.2.0"
