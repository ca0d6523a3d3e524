"""`python3 -m bootimg` is `gadgetd-bootimg`."""

import sys

from bootimg.cli import main

if __name__ == "__main__":
    sys.exit(main())
