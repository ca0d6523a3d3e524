"""Imports pyudev without the modules of which it needs nothing to watch and list devices.

As if pyudev imported them where they are used: a change that would have to be made upstream.
"""

import collections.abc  # noqa: F401 - pyudev counts on one of them to have imported it
import sys

for module, attribute in (
    ("ctypes.util", "find_library"),
    ("subprocess", "check_output"),
    ("datetime", "timedelta"),
):
    empty = type(sys)(module)
    setattr(empty, attribute, None)
    sys.modules[module] = empty

sys.path.append("/usr/lib/python3/dist-packages")
__import__("pyudev").Context()
