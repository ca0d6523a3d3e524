"""What stays in the image: derived from what is imported and linked, and enough to run."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pyudev
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
BOARD = CHECKOUT / "buildroot-package/board/cm4"
STDLIB = Path(importlib.__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The board's scripts import each other by name, as they do in a build."""
    monkeypatch.syspath_prepend(str(BOARD))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def imports() -> Any:
    """The module imports.py."""
    return importlib.import_module("imports")


@pytest.fixture
def prune() -> Any:
    """The module prune.py."""
    return importlib.import_module("prune")


def this_pythons_modules(imports: Any) -> dict[str, Path]:
    """This machine's standard library, with gadgetd, pyudev and yaml."""
    modules: dict[str, Path] = {
        name: path
        for name, path in imports.modules_of(STDLIB).items()
        if "-packages" not in str(path)
    }
    modules |= imports.modules_below(STDLIB / "lib-dynload")
    for top in (CHECKOUT, Path(pyudev.__file__).parents[1], Path(yaml.__file__).parents[1]):
        for package in imports.OURS:
            found = imports.modules_below(top / package)
            modules |= {f"{package}.{name}".rstrip("."): path for name, path in found.items()}
    return modules


def board_python(imports: Any, home: Path) -> None:
    """Lay out at `home` what would be left of this machine's Python."""
    modules = this_pythons_modules(imports)
    library = home / f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
    (library / "lib-dynload").mkdir(parents=True)
    for name in imports.for_the_board(modules):
        source = modules[name]
        place = library.joinpath(*name.split("."))
        if source.suffix == ".so" and "." not in name:
            place = library / "lib-dynload" / source.name
        elif source.suffix == ".so":
            place = place.with_name(source.name)
        else:
            place = place / "__init__.py" if source.stem == "__init__" else Path(f"{place}.py")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)


def on_the_board(home: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run this machine's interpreter with that Python and no other."""
    return subprocess.run(
        [Path(sys.executable).resolve(), "-B", *arguments],
        env={"PYTHONHOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The board's Python, made once."""
    top = tmp_path_factory.mktemp("python")
    sys.path.insert(0, str(BOARD))
    try:
        board_python(importlib.import_module("imports"), top)
    finally:
        sys.path.remove(str(BOARD))
    return top


def test_every_module_of_gadgetd_can_be_imported_on_the_board(home: Path) -> None:
    modules = sorted(
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
        for path in (CHECKOUT / "gadgetd").rglob("*.py")
        if path.stem[0] != "_"
    )
    done = on_the_board(home, "-c", f"import {', '.join(modules)}")
    assert done.returncode == 0, done.stderr


def test_the_debug_shell_has_what_it_was_promised(home: Path, imports: Any) -> None:
    done = on_the_board(home, "-c", f"import {', '.join(imports.SHELL)}")
    assert done.returncode == 0, done.stderr


def test_a_person_can_step_through_a_program_there(home: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import json\nvalue = json.loads('[1, 2]')\nraise ValueError(value)\n")
    done = on_the_board(
        home, "-m", "pdb", str(program), input="help\nn\nn\np value\nc\nwhere\nq\n", timeout=60
    )
    assert "[1, 2]" in done.stdout
    assert "ValueError" in done.stdout
    assert "ModuleNotFoundError" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("usb:\n  serial: abc\n", 0),
        ("usb:\n  seriall: abc\n", 3),  # difflib proposes the right name
        ("a: [", 3),
    ],
)
def test_a_configuration_is_checked_there(
    home: Path, tmp_path: Path, text: str, status: int
) -> None:
    (tmp_path / "gadgetd.yaml").write_text(text)
    done = on_the_board(home, "-m", "gadgetd", "check", str(tmp_path / "gadgetd.yaml"))
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["status"], ["nonsense"]])
def test_the_commands_explain_themselves_there(home: Path, arguments: list[str]) -> None:
    done = on_the_board(home, "-m", "gadgetd", *arguments)
    assert "Traceback" not in done.stderr
    assert done.stdout or done.stderr


def test_ordinary_errors_are_shown_there_as_anywhere(home: Path) -> None:
    done = on_the_board(home, "-c", "import time; time.strptime('2026', '%Y'); 1 / 0")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "ModuleNotFoundError" not in done.stderr


def test_what_is_left_is_a_small_part_of_the_standard_library(home: Path, imports: Any) -> None:
    library = next(home.glob("lib/python3*"))
    kept = sum(
        path.stat().st_size
        for path in library.rglob("*.py")
        if path.relative_to(library).parts[0] not in imports.OURS
    )
    everything = sum(
        path.stat().st_size for path in STDLIB.rglob("*.py") if "-packages" not in str(path)
    )
    assert kept < 0.28 * everything
    assert not list(home.rglob("unittest"))
    assert not list(home.rglob("asyncio")) or sys.version_info >= (3, 14)


def test_every_module_that_is_not_followed_has_a_reason(imports: Any) -> None:
    for name, reason in imports.NOT_FOLLOWED.items():
        assert reason, name
    promised = {*imports.SHELL, *imports.UNSEEN}
    assert not [name for name in promised if imports.excluded(name)]


class TestImports:
    """How imports are read."""

    @pytest.fixture
    def library(self, tmp_path: Path) -> Path:
        (tmp_path / "pack").mkdir()
        for name, text in {
            "always.py": "import one\nclass A:\n    import two\n",
            "sometimes.py": (
                "try:\n    import asyncio\nexcept ImportError:\n    pass\n"
                "def f():\n    import unittest, three\n"
                "import pickle\n"
                "if __name__ == '__main__':\n    import doctest\n"
            ),
            "one.py": "from pack import inner, value\n",
            "two.py": "",
            "three.py": "from pack.other import *\n",
            "unused.py": "",
            "pack/__init__.py": "value = 1\n",
            "pack/inner.py": "from . import side\nfrom .other import x\n",
            "pack/side.py": "",
            "pack/other.py": "from ..two import y\n",
            "pack/unused.py": "",
            "asyncio.py": "import four\n",
            "unittest.py": "",
            "pickle.py": "",
            "doctest.py": "",
            "four.py": "",
        }.items():
            (tmp_path / name).write_text(text)
        return tmp_path

    def wanted(self, imports: Any, library: Path, *roots: str) -> set[str]:
        found: set[str] = imports.wanted(imports.modules_of(library), roots)
        return found

    def test_what_always_runs_is_followed_into_packages(self, imports: Any, library: Path) -> None:
        assert self.wanted(imports, library, "always") == {
            *("always", "one", "two"),
            *("pack", "pack.inner", "pack.side", "pack.other"),
        }

    def test_a_conditional_import_is_followed_unless_it_is_listed(
        self, imports: Any, library: Path
    ) -> None:
        found = self.wanted(imports, library, "sometimes")
        assert {"three", "pack.other"} <= found
        assert not {"asyncio", "unittest", "doctest", "four"} & found

    def test_an_import_without_condition_is_kept_even_if_it_is_listed(
        self, imports: Any, library: Path
    ) -> None:
        assert "pickle" in imports.NOT_FOLLOWED
        assert "pickle" in self.wanted(imports, library, "sometimes")

    def test_byte_code_without_its_source_tells_the_same(self, imports: Any, library: Path) -> None:
        sources = self.wanted(imports, library, "always", "sometimes")
        subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", library], check=True)
        for path in library.rglob("*.py"):
            path.unlink()
        assert self.wanted(imports, library, "always", "sometimes") == sources

    @pytest.mark.parametrize(
        ("version", "files", "root", "kept"),
        [
            # Modules/_ctypes/stgdict.c: PyImport_ImportModuleAttrString("ctypes._layout", …).
            ("3.14", {"_ct.cpython.so": b"\x7fELF\0pack.other\0"}, "_ct", "pack.other"),
            # 3.14: asyncio, which pdb imports at its top, begins with such lines.
            ("3.14", {"new.py": b"from pack import other\n"}, "new", "pack.other"),
            # and ends with a branch for the system that it is on.
            (
                "3.14",
                {
                    "new.py": b"import pickle\n",
                    "pickle/__init__.py": b"import sys\nif sys.platform:\n    from . import part\n",
                    "pickle/part.py": b"",
                },
                "new",
                "pickle.part",
            ),
        ],
    )
    def test_what_a_python_version_imports_in_a_way_of_its_own(
        self,
        imports: Any,
        library: Path,
        version: str,
        files: dict[str, bytes],
        root: str,
        kept: str,
    ) -> None:
        for name, text in files.items():
            (library / name).parent.mkdir(exist_ok=True)
            (library / f"{name.split('/')[0]}.py").unlink(missing_ok=True)
            (library / name).write_bytes(text)
        assert kept in self.wanted(imports, library, root), version

    @pytest.mark.parametrize(
        ("version", "name", "text", "dropped"),
        [
            # asyncio has it, and pdb has asyncio.
            (
                "3.14",
                "concurrent.futures",
                "def __getattr__(name):\n    from . import interpreter, process\n",
                ("concurrent.futures.interpreter", "concurrent.futures.process"),
            ),
            # shutil, for archives.
            (
                "3.14",
                "new",
                "try:\n    from compression import zstd\nexcept ImportError:\n    zstd = None\n",
                ("compression", "compression.zstd"),
            ),
            # code and site, since 3.13.
            (
                "3.13",
                "new",
                "def interact():\n    from _pyrepl import console\n",
                ("_pyrepl.console",),
            ),
        ],
    )
    def test_what_a_python_version_offers_and_the_board_does_without(
        self,
        imports: Any,
        library: Path,
        version: str,
        name: str,
        text: str,
        dropped: tuple[str, ...],
    ) -> None:
        for module in (name, *dropped):
            place = library.joinpath(*module.split("."))
            inner = any(other.startswith(f"{module}.") for other in dropped)
            path = place / "__init__.py" if inner else place.with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text if module == name else "")
        for package in ("concurrent", "_pyrepl"):
            (library / package).mkdir(exist_ok=True)
            (library / package / "__init__.py").touch()
        found = self.wanted(imports, library, name)
        assert name in found, version
        assert not found & set(dropped), version

    def test_a_module_that_is_imported_for_certain_and_is_not_there_ends_the_build(
        self, imports: Any, library: Path
    ) -> None:
        # 3.14's pdb, by way of _pyrepl.utils, imported unicodedata when that was not built.
        (library / "new.py").write_text("import between\n")
        (library / "between.py").write_text("import no_such_module\n")
        with pytest.raises(LookupError, match="no_such_module \\(for between\\)"):
            self.wanted(imports, library, "new")

    @pytest.mark.parametrize(
        "text",
        [
            "try:\n    import no_such_module\nexcept ImportError:\n    pass\n",
            "import sys\nif sys.platform == 'win32':\n    import no_such_module\n",
            "def f():\n    import no_such_module\n",
        ],
    )
    def test_a_module_that_may_never_be_imported_may_be_missing(
        self, imports: Any, library: Path, text: str
    ) -> None:
        (library / "new.py").write_text(text)
        assert "new" in self.wanted(imports, library, "new")

    def test_a_module_that_gadgetd_needs_and_is_not_there_ends_the_build(
        self, imports: Any, library: Path
    ) -> None:
        (library / "gadgetd.py").write_text("import no_such_module\n")
        with pytest.raises(LookupError, match="no_such_module \\(for gadgetd\\)"):
            self.wanted(imports, library, "gadgetd")


class TestPrune:
    """What is done with it."""

    @pytest.fixture
    def target(self, tmp_path: Path, imports: Any) -> Path:
        """A target directory with this machine's Python in it."""
        top = tmp_path / "target"
        library = top / "usr/lib/python3.99"
        for name, path in this_pythons_modules(imports).items():
            inside = "site-packages" if name.split(".")[0] in imports.OURS else "."
            if path.suffix == ".so" and "." not in name:
                place = library / "lib-dynload" / path.name
            else:
                parts = name.split(".")
                place = library / inside / Path(*parts) / path.name
                if path.stem != "__init__":
                    place = library / inside / Path(*parts[:-1]) / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place) if inside != "." else place.symlink_to(path)
        for name in ("etc/init.d/S01seedrng", "etc/init.d/rcS", "etc/udev/rules.d/1.rules"):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(name)
        for name in ("ensurepip/_bundled/pip-1-py3-none-any.whl", "site-packages/yaml/table.txt"):
            (library / name).parent.mkdir(parents=True, exist_ok=True)
            (library / name).write_text(name)
        return top

    def run(self, prune: Any, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["prune.py", str(target), str(target.parent / "spare")])
        prune.main()

    def test_what_nobody_uses_goes_and_the_rest_stays(
        self, prune: Any, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.run(prune, target, monkeypatch)
        library = target / "usr/lib/python3.99"
        assert (library / "json/decoder.py").exists()
        assert (library / "site-packages/gadgetd/cli.py").exists()
        assert (library / "site-packages/pyudev/core.py").exists()
        assert not (library / "tkinter").exists()
        assert not (library / "unittest").exists()
        assert not (library / "ensurepip").exists()
        assert (library / "site-packages/yaml/table.txt").exists()
        assert not (library / "site-packages/pyudev/glib.py").exists()
        assert (target / "etc/init.d/rcS").exists()
        assert not (target / "etc/init.d/S01seedrng").exists()
        assert not (target / "etc/udev").exists()

    def test_a_module_that_is_wanted_later_comes_back(
        self, prune: Any, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.run(prune, target, monkeypatch)
        library = target / "usr/lib/python3.99"
        assert not (library / "colorsys.py").exists()
        with (library / "site-packages/gadgetd/cli.py").open("a") as file:
            file.write("\nimport colorsys\n")
        self.run(prune, target, monkeypatch)
        assert (library / "colorsys.py").exists()

    def test_running_it_again_changes_nothing(
        self, prune: Any, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.run(prune, target, monkeypatch)
        first = sorted(target.rglob("*"))
        self.run(prune, target, monkeypatch)
        assert sorted(target.rglob("*")) == first

    def test_without_gadgetd_it_refuses(
        self, prune: Any, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.rmtree(target / "usr/lib/python3.99/site-packages/gadgetd")
        with pytest.raises(SystemExit, match="there is no gadgetd"):
            self.run(prune, target, monkeypatch)

    def test_a_program_says_which_libraries_it_needs(self, prune: Any) -> None:
        needed = prune.needed(Path("/bin/ls").resolve().read_bytes())
        assert "libc.so.6" in needed
        assert [name for name in needed if name.startswith("ld-linux")]
        assert prune.needed(b"#!/bin/sh\n") == []
        assert prune.needed(b"") == []

    def test_only_libraries_that_somebody_needs_stay(self, prune: Any, tmp_path: Path) -> None:
        for name in ("usr/bin", "lib", "usr/lib"):
            (tmp_path / name).mkdir(parents=True)
        shutil.copyfile("/bin/ls", tmp_path / "usr/bin/ls")
        for name in ("libc.so.6", "libunused.so.1.2.3", "libudev.so.1.6.3", "libgcc_s.so.1"):
            (tmp_path / "lib" / name).write_bytes(b"")
        (tmp_path / "lib/libunused.so.1").symlink_to("libunused.so.1.2.3")
        (tmp_path / "lib/libudev.so").symlink_to("libudev.so.1.6.3")
        gone = {path.name for path in prune.unneeded_libraries(tmp_path)}
        assert gone == {"libunused.so.1", "libunused.so.1.2.3"}
