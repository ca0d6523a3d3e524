"""Measurements: gadgetd beside the script that it replaces, on the emulated board (make bench)."""
