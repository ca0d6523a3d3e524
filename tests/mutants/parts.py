"""Which code is changed, and which unit tests are to notice: the few files that are about it."""

from __future__ import annotations

UNIT = "tests/unit"

# In the order in which it matters most what they decide.
PARTS: dict[str, tuple[str, ...]] = {
    "export/choosing": ("export/test_choosing_and_plan",),
    "export/numbering": ("export/test_choosing_and_plan",),
    "export/drive": ("export/test_drive", "export/test_drive_life", "export/test_write_errors"),
    "export/lun_memory": ("export/test_lun_memory",),
    "disks/hold": ("disks/test_hold",),
    "export/ending": ("export/test_ending", "export/test_doubts", "export/test_no_answer"),
    "export/reconnect": ("export/test_reconnect", "export/test_reconnect_resets"),
    "configfs": ("test_configfs",),
    "export/drives": (
        *("export/test_doubts", "export/test_write_errors", "export/test_no_answer"),
        *("export/test_board_reads", "export/test_exporter"),
    ),
    "export/exporter": ("export/test_exporter",),
    "export/plan": ("export/test_choosing_and_plan",),
    "export/own_gadget": ("export/test_no_answer", "export/test_exporter"),
    "export/retry": ("export/test_exporter", "test_daemon"),
    "export/outcome": ("export/test_exporter", "test_daemon"),
    "config/load": ("config/test_settings",),
    "config/settings": ("config/test_settings",),
    "config/option_types": ("config/test_settings", "config/test_schema"),
    "config/options": ("config/test_settings", "config/test_schema"),
    "config/yaml_tree": ("config/test_settings",),
    "config/pitfalls": ("config/test_pitfalls",),
}
"""A change that none of these notice may be noticed by another file: they are the few that are
about the module, since a change that nobody notices costs all of them."""

SHARED = ("tests/unit/conftest.py", "tests/unit/fakes.py", "tests/fake_configfs.py")
"""What most of them are made with."""


def files_of(part: str) -> list[str]:
    """The files of tests that are run against a part's mutants."""
    return [f"{UNIT}/{name}.py" for name in PARTS[part]]
