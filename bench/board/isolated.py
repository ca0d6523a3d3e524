"""gadgetd without Python's `site`: what its start script would be with -I -S -E."""

import sys

sys.path.append("/usr/lib/python3/dist-packages")

from gadgetd.cli import main

sys.exit(main(["run"]))
