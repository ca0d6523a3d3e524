"""Removes from a target directory what the board never uses.

Python modules: what imports.py does not find to be needed. Shared libraries: what no program and
no Python extension asks for. The rest is a list of names, prune.txt.

    prune.py TARGET SPARE

What is removed goes to SPARE and is put back first the next time, so that a module that is needed
tomorrow can be found without building everything again.
"""

import shutil
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

import imports

HERE = Path(__file__).resolve().parent

OPENED_BY_NAME = ("libudev.so", "libgcc_s.so")
"""Libraries that are loaded at run time: by pyudev, and by the C library when a thread ends."""

PROGRAM_DIRECTORIES = ("bin", "sbin", "usr/bin", "usr/sbin")
LIBRARY_DIRECTORIES = ("lib", "usr/lib")


def main() -> None:
    """Do what the command line says."""
    target, spare = (Path(argument).resolve() for argument in sys.argv[1:])
    restore(spare, target)
    before = size_bytes(target)
    paths = {
        *named(target, (HERE / "prune.txt").read_text().splitlines()),
        *python_modules(target),
    }
    move(paths, target, spare)
    move(unneeded_libraries(target), target, spare)
    remove_named_directories(target, (HERE / "prune.txt").read_text().splitlines())
    print(f"pruned {before / 1e6:.1f} MB to {size_bytes(target) / 1e6:.1f} MB")


def size_bytes(top: Path) -> int:
    """The size of all files below a directory."""
    paths = (path for path in top.rglob("*") if not path.is_symlink())
    return sum(path.stat().st_size for path in paths if path.is_file())


def move(paths: Iterable[Path], source: Path, target: Path) -> None:
    """Move files and links below `source` to the same place below `target`."""
    for path in sorted(paths):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        shutil.move(path, place)
        remove_empty(path.parent, source)


def remove_empty(directory: Path, top: Path) -> None:
    """Remove a directory and those that it is in as far as they are empty, but never `top`."""
    while directory != top and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent


def restore(spare: Path, target: Path) -> None:
    """Put back what an earlier run took, unless a newer one has been installed since."""
    taken = [path for path in spare.rglob("*") if path.is_symlink() or path.is_file()]
    move([p for p in taken if not exists(target / p.relative_to(spare))], spare, target)


def exists(path: Path) -> bool:
    """Whether something has that name, be it a link to nothing."""
    return path.exists() or path.is_symlink()


def named(target: Path, lines: Iterable[str]) -> set[Path]:
    """The files that the patterns of prune.txt name. A pattern that fits nothing is no error."""
    found: set[Path] = set()
    for line in lines:
        pattern = line.partition("#")[0].strip()
        for path in target.glob(pattern) if pattern else ():
            inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
            found |= {p for p in inside if p.is_symlink() or p.is_file()}
    return found


def remove_named_directories(target: Path, lines: Iterable[str]) -> None:
    """Remove the directories that prune.txt names and that have nothing in them.

    Buildroot makes some that no file ever comes to; moving files away does not reach those.
    """
    for line in lines:
        pattern = line.partition("#")[0].strip()
        for top in sorted(target.glob(pattern), reverse=True) if pattern else ():
            if top.is_dir() and not top.is_symlink():
                inside = [path for path in top.rglob("*") if path.is_dir()]
                for directory in (*sorted(inside, reverse=True), top):
                    if not any(directory.iterdir()):
                        directory.rmdir()


def python_modules(target: Path) -> set[Path]:
    """The Python modules that nothing wants."""
    found: set[Path] = set()
    for library in target.glob("usr/lib/python3.*"):
        modules = imports.modules_of(library)
        try:
            wanted = imports.for_the_board(modules)
        except LookupError as error:
            raise SystemExit(f"prune: {library}: {error}") from error
        found |= {path for name, path in modules.items() if name not in wanted}
        found |= data_files(library)
    return found


def data_files(library: Path) -> set[Path]:
    """The standard library's data, pip's wheel above all. None of the modules here reads any.

    What packages have of their own stays: its owner knows what it is for.
    """
    return {
        path
        for path in library.rglob("*")
        if path.suffix not in (".so", ".py", ".pyc")
        and path.is_file()
        and not path.is_relative_to(library / "site-packages")
    }


def unneeded_libraries(target: Path) -> set[Path]:
    """The shared libraries that no program, extension or other library asks for."""
    shared = {
        path.name: path
        for directory in LIBRARY_DIRECTORIES
        for path in sorted((target / directory).glob("*.so*"))
    }
    programs = [
        path
        for directory in PROGRAM_DIRECTORIES
        for path in sorted((target / directory).glob("*"))
        if path.is_file() and not path.is_symlink()
    ]
    extensions = sorted(target.glob("usr/lib/python3.*/**/*.so"))
    queue = [name for path in (*programs, *extensions) for name in needed(path.read_bytes())]
    queue += [name for name in shared if name.startswith(OPENED_BY_NAME)]
    kept: set[str] = set()
    while queue:
        name = queue.pop()
        if name in kept or name not in shared:
            continue
        kept.add(name)
        path = shared[name]
        if path.is_symlink():
            queue.append(Path(path.readlink()).name)
        else:
            queue += needed(path.read_bytes())
    return {path for name, path in shared.items() if name not in kept}


def needed(data: bytes) -> list[str]:
    """The libraries that a 64-bit little-endian ELF file asks for, and its interpreter's name.

    Anything that is not such a file asks for none. Source: the System V ABI, chapters 4 and 5.
    """
    if data[:6] != b"\x7fELF\x02\x01":
        return []
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQ", data, offset + i * size) for i in range(count)]
    loads = [(address, at, length) for kind, _, at, address, _, length in segments if kind == 1]
    names = []
    for kind, _, at, _, _, length in segments:
        if kind == 3:  # PT_INTERP
            names.append(Path(text(data, at)).name)
        if kind == 2:  # PT_DYNAMIC
            entries = [struct.unpack_from("<QQ", data, at + i) for i in range(0, length, 16)]
            strings = next((value for tag, value in entries if tag == 5), 0)  # DT_STRTAB
            start = next(at + strings - a for a, at, n in loads if a <= strings < a + n)
            names += [text(data, start + value) for tag, value in entries if tag == 1]  # DT_NEEDED
    return names


def text(data: bytes, at: int) -> str:
    """The text that begins there and ends before a zero byte."""
    return data[at:].partition(b"\0")[0].decode()


if __name__ == "__main__":
    main()
