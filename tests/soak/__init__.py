"""Tests with chance in them, again and again: `make soak`.

`make test` runs each of them once, always with the same choices. A soak runs them with new ones
until its time is over. GADGETD_SEED has a test choose as it did in a soak.
"""

from __future__ import annotations

import os

SEED = int(os.environ.get("GADGETD_SEED", "20261126"))
