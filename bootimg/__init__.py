"""gadgetd-bootimg: looks into a boot.img, changes its settings, signs and makes one, on any PC.

Nothing here is on the board. `create` runs on the standard library alone, so that a build system's
own Python can run it.
"""
