"""The BR2_EXTERNAL tree: its parts fit each other, the overlay and pyproject.toml."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator import machine

CHECKOUT = Path(__file__).resolve().parents[2]
TREE = CHECKOUT / "buildroot-package"
BOARD = TREE / "board/cm4"
DEFCONFIG = (TREE / "configs/gadgetd_cm4_defconfig").read_text()
BCM2712 = (TREE / "configs/gadgetd_cm5_defconfig").read_text()
SCRIPTS = sorted([*TREE.glob("*.sh"), *BOARD.glob("*.sh")])
FRAGMENTS = sorted(TREE.glob("board/*/linux*.config"))


def symbols(fragment: Path) -> Iterator[tuple[str, str]]:
    """Each symbol that a Kconfig fragment sets, with its line."""
    for line in fragment.read_text().splitlines():
        match = re.fullmatch(r"(?:# )?(CONFIG_\w+)(?:=\S+| is not set)", line)
        if match:
            yield match[1], line


def test_every_file_that_the_defconfig_names_is_there() -> None:
    named = re.findall(r"\$\(BR2_EXTERNAL_GADGETD_PATH\)/([^\s\"]+)", DEFCONFIG + BCM2712)
    assert len(named) >= 14
    for name in named:
        assert (TREE / name).exists(), name


def test_a_bcm2712s_image_differs_in_what_is_bcm2712s_and_in_nothing_else() -> None:
    ours, theirs = set(DEFCONFIG.splitlines()), set(BCM2712.splitlines())
    differ = {line.partition("=")[0].removeprefix("BR2_") for line in ours ^ theirs}
    assert differ == {
        *("cortex_a72", "cortex_a76", "ROOTFS_POST_SCRIPT_ARGS"),
        *("LINUX_KERNEL_CONFIG_FRAGMENT_FILES", "LINUX_KERNEL_INTREE_DTS_NAME"),
        "PACKAGE_RPI_FIRMWARE_VARIANT_PI4",
    }
    (first,) = re.findall(r'FRAGMENT_FILES="(\S*linux\S*)"$', DEFCONFIG, re.M)
    assert f'FRAGMENT_FILES="{first} ' in BCM2712, "all of the first board's options come before"


def test_the_overlay_is_installed_as_it_is() -> None:
    assert 'BR2_ROOTFS_OVERLAY="$(BR2_EXTERNAL_GADGETD_PATH)/../rootfs-overlay"' in DEFCONFIG
    # Buildroot's skeleton has real /bin, /sbin and /lib: an overlay must not bring its own.
    assert {path.name for path in (CHECKOUT / "rootfs-overlay").iterdir()} <= {"etc", "root", "usr"}


def test_the_table_of_rights_makes_no_directory_for_what_the_board_has_not() -> None:
    rows = [row.split() for row in (BOARD / "device_table.txt").read_text().splitlines()]
    named = {row[0]: row[1:5] for row in rows if row and row[0].startswith("/")}
    assert named["/tmp"] == ["d", "1777", "0", "0"]
    assert named["/root"] == ["d", "700", "0", "0"]
    assert named["/etc/shadow"] == ["f", "600", "0", "0"]
    pruned = [f"/{line.rstrip('*')}" for line in (BOARD / "prune.txt").read_text().splitlines()]
    assert not [name for name in named if name.startswith(tuple(p for p in pruned if len(p) > 1))]


def test_downloads_are_checked_by_their_hashes() -> None:
    assert "BR2_DOWNLOAD_FORCE_CHECK_HASHES=y" in DEFCONFIG
    digest = hashlib.sha256((CHECKOUT / "LICENSE").read_bytes()).hexdigest()
    assert f"sha256  {digest}  LICENSE" in (TREE / "package/gadgetd/gadgetd.hash").read_text()


def test_the_kernels_hash_is_beside_its_pin_not_in_the_buildroot_that_is_used() -> None:
    (location,) = re.findall(r'^BR2_LINUX_KERNEL_CUSTOM_TARBALL_LOCATION="(.*)"$', DEFCONFIG, re.M)
    (patches,) = re.findall(r'^BR2_GLOBAL_PATCH_DIR="(.*)"$', DEFCONFIG, re.M)
    hashes = TREE / patches.removeprefix("$(BR2_EXTERNAL_GADGETD_PATH)/") / "linux/linux.hash"
    tarball = re.escape(location.rpartition("/")[2])
    assert re.search(rf"^sha256  [0-9a-f]{{64}}  {tarball}$", hashes.read_text(), re.M)


def test_the_package_selects_what_pyproject_requires() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    config = (TREE / "package/gadgetd/Config.in").read_text()
    for dependency in project["project"]["dependencies"]:
        assert f"select BR2_PACKAGE_PYTHON_{dependency.upper()} " in config
    makefile = (TREE / "package/gadgetd/gadgetd.mk").read_text()
    backends = [re.match(r"\w+", text)[0] for text in project["build-system"]["requires"]]  # type: ignore[index]
    assert backends == ["setuptools"]
    assert "GADGETD_SETUP_TYPE = setuptools\n" in makefile


def test_nothing_of_the_pcs_tool_is_on_the_board(tmp_path: Path) -> None:
    """Copy what the package copies, run its hook, and build the wheel as Buildroot does."""
    source = tmp_path / "source"
    for name in ("gadgetd", "pyproject.toml", "README.md", "LICENSE"):
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    (tmp_path / "Makefile").write_text(
        f"BR2_EXTERNAL_GADGETD_PATH = {TREE}\nSED = sed -i -e\n"
        f"include {TREE}/package/gadgetd/gadgetd.mk\n"
        "source/.stamp_rsynced:\n"
        "\t$(foreach hook,$(GADGETD_POST_RSYNC_HOOKS),$(call $(hook)))\n"
    )
    subprocess.run(["make", "-s", "-C", tmp_path, "source/.stamp_rsynced"], check=True)
    build = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", build, str(tmp_path)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        names = wheel.namelist()
        (points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "bootimg" not in wheel.read(points).decode()
        assert "gadgetd = gadgetd.cli:main" in wheel.read(points).decode()
    assert not [name for name in names if name.startswith("bootimg")]
    modules = {path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.glob("gadgetd/**/*.py")}
    assert modules <= set(names), "every module of every folder is packaged"


def test_the_package_is_built_from_all_that_the_wheel_needs() -> None:
    makefile = (TREE / "package/gadgetd/gadgetd.mk").read_text()
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    for name in ("gadgetd", "pyproject.toml", project["readme"], *project["license-files"]):
        assert f"--include /{name} " in makefile
        assert (CHECKOUT / name).exists()


def test_whatever_is_installed_is_removed_before_it_is_installed_again() -> None:
    makefile = (TREE / "package/gadgetd/gadgetd.mk").read_text()
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    removed = makefile.partition("rm -rf")[2].partition("endef")[0].split()
    for script, entry in project["scripts"].items():
        of_the_board = entry.startswith("gadgetd.")
        assert (f"$(TARGET_DIR)/usr/bin/{script}" in removed) == of_the_board
    assert "$(TARGET_DIR)/usr/lib/python*/site-packages/gadgetd" in removed


def test_the_firmware_can_read_config_txt() -> None:
    for path in (*TREE.glob("board/*/config.txt"), BOARD / "rpiboot.txt"):
        for line in path.read_text().splitlines():
            assert len(line) <= 98, line
            assert line.isascii()
    assert "boot_ramdisk=1" in (BOARD / "rpiboot.txt").read_text().splitlines()


def test_the_kernel_command_line_is_the_emulators() -> None:
    (line,) = (BOARD / "cmdline.txt").read_text().splitlines()
    assert sorted(line.replace("serial0", "ttyAMA0").split()) == sorted(machine.CMDLINE.split())


def external_mk(tmp_path: Path, hook: str, **variables: str) -> None:
    """Run one of external.mk's hooks as Buildroot does, with these of its variables."""
    (tmp_path / "Makefile").write_text(
        f"BR2_EXTERNAL_GADGETD_PATH = {TREE}\nINSTALL = install\n"
        "UPPERCASE = $(shell echo $(1) | tr a-z- A-Z_)\n"
        + "".join(f"{name} = {value}\n" for name, value in variables.items())
        + f"include {TREE}/external.mk\nall:\n\t$({hook})\n"
    )
    subprocess.run(["make", "-s", "-C", tmp_path, "all"], check=True)


def test_both_second_stage_loaders_are_pinned_by_commit_and_hash() -> None:
    package = TREE / "package/rpiboot-loaders"
    makefile = (package / "rpiboot-loaders.mk").read_text()
    assert re.search(r"^RPIBOOT_LOADERS_VERSION = [0-9a-f]{40}$", makefile, re.M)
    hashes = (package / "rpiboot-loaders.hash").read_text()
    for name in ("bootfiles.bin", "bootcode4.bin"):
        assert f"$(BINARIES_DIR)/rpiboot/{name}\n" in makefile
        assert re.search(rf"^sha256  [0-9a-f]{{64}}  {name}$", hashes, re.M)
    assert "BR2_PACKAGE_RPIBOOT_LOADERS=y\n" in DEFCONFIG


def test_the_whole_firmware_is_taken() -> None:
    # The documentation of start_file: a cut-down one cannot be selected by name and does not boot.
    lines = (BOARD / "config.txt").read_text().splitlines()
    assert {"start_file=start4.elf", "fixup_file=fixup4.dat"} <= set(lines)
    assert not [line for line in lines if line.startswith("gpu_mem")]
    assert "BR2_PACKAGE_RPI_FIRMWARE_VARIANT_PI4=y\n" in DEFCONFIG


def test_the_list_of_packages_names_the_kernel_that_was_built(tmp_path: Path) -> None:
    release = tmp_path / "linux/include/config/kernel.release"
    release.parent.mkdir(parents=True)
    release.write_text("6.12.61-v8\n")
    external_mk(
        tmp_path,
        "GADGETD_PACKAGE_LIST",
        PACKAGES="linux host-mtools",
        BUILD_DIR=str(tmp_path),
        LINUX_DIR=str(tmp_path / "linux"),
        BR2_VERSION="2026.02.3",
        LINUX_VERSION="custom",
        LINUX_LICENSE="GPL-2.0",
        HOST_MTOOLS_VERSION="4.0.49",
        HOST_MTOOLS_LICENSE="GPL-3.0+",
    )
    assert (tmp_path / "gadgetd-packages.txt").read_text().splitlines() == [
        "buildroot|2026.02.3|GPL-2.0+",
        "host-mtools|4.0.49|GPL-3.0+",
        "linux|6.12.61-v8|GPL-2.0",
    ]


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_kernel_fragment_sets_each_symbol_once_and_none_as_a_module(fragment: Path) -> None:
    found = list(symbols(fragment))
    names = [name for name, _ in found]
    assert len(names) == len(set(names))
    assert not [line for _, line in found if line.endswith("=m")]
    others = [line for line in fragment.read_text().splitlines() if line.startswith("CONFIG_")]
    assert len(others) == len([line for _, line in found if not line.startswith("#")])


def test_nothing_of_the_boot_test_is_in_the_image() -> None:
    shipped = {line for path in FRAGMENTS if "test" not in path.name for _, line in symbols(path)}
    assert "CONFIG_USB_DUMMY_HCD=y" not in shipped
    assert "linux-test.config" not in DEFCONFIG


def test_the_shipped_kernel_has_what_gadgetd_needs() -> None:
    shipped = {line for _, line in symbols(BOARD / "linux.config")}
    for name in (
        *("PM", "PM_GENERIC_DOMAINS", "RASPBERRYPI_POWER"),
        *("USB_DWC2", "USB_CONFIGFS_MASS_STORAGE", "USB_CONFIGFS_ACM", "MMC_SDHCI_IPROC"),
        # Each was missing once: the clock, the screen, the PHY, a Pi 400's power switch.
        *("CPUFREQ_DT", "CMA", "DMA_CMA", "NOP_USB_XCEIV", "POWER_RESET_GPIO"),
        *("BLK_DEV_NVME", "PCIE_BRCMSTB", "SATA_AHCI", "USB_STORAGE", "LEDS_GPIO", "UNIX"),
        *("SERIAL_8250_BCM2835AUX", "SERIAL_AMBA_PL011", "FRAMEBUFFER_CONSOLE", "BCM2835_WDT"),
        *("FONT_8x16", "FONT_TER16x32"),
    ):
        assert f"CONFIG_{name}=y" in shipped
    assert {"# CONFIG_MODULES is not set", "# CONFIG_INET is not set"} <= shipped


@pytest.mark.parametrize(
    ("taken", "complaint"),
    [
        ("CONFIG_A=y\nCONFIG_N=8\n", ""),
        ("CONFIG_A=y\nCONFIG_N=8\n# CONFIG_B is not set\n", ""),
        ("CONFIG_A=y\nCONFIG_N=2\n", "asked for: CONFIG_N=8; found: CONFIG_N=2"),
        ("CONFIG_N=8\n", "asked for: CONFIG_A=y; found: nothing"),
        ("# CONFIG_A is not set\nCONFIG_N=8\n", "found: # CONFIG_A is not set"),
        ("CONFIG_A=y\nCONFIG_B=y\nCONFIG_N=8\n", "found: CONFIG_B=y"),
    ],
)
def test_a_symbol_that_the_kernel_does_not_take_ends_the_build(
    tmp_path: Path, taken: str, complaint: str
) -> None:
    config, first, second = (tmp_path / name for name in (".config", "first", "second"))
    config.write_text(taken)
    first.write_text("# Why.\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=2\n")
    second.write_text("CONFIG_N=8\n")
    done = subprocess.run(
        [BOARD / "check-kconfig.sh", config, first, second],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == bool(complaint)
    assert complaint in done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_pass_shellcheck(script: Path) -> None:
    program = shutil.which("shellcheck")
    assert program, "run: make setup"
    done = subprocess.run([program, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert script.stat().st_mode & 0o111
