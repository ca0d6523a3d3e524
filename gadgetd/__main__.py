"""`python3 -m gadgetd` is `gadgetd`."""

import sys

from gadgetd.cli import main

sys.exit(main())
