# Included by the top Makefile. BUILDROOT=DIR uses that Buildroot instead of fetching the pinned one;
# CONFIG=FILE is the gadgetd.yaml of the image, BOARD=cm5 makes the one for BCM2712.
# Both go to the script as they were written, as ARGS does.
export GADGETD_BUILDROOT := $(value BUILDROOT)
export GADGETD_CONFIG := $(value CONFIG)
unexport BUILDROOT CONFIG
.PHONY: image image-test release

image:
	@BUILDROOT="$$GADGETD_BUILDROOT" CONFIG="$$GADGETD_CONFIG" BOARD="$$GADGETD_BOARD" buildroot-package/image.sh

# What a release consists of, from what `make image` has built.
release:
	@BUILDROOT="$$GADGETD_BUILDROOT" BOARD="$$GADGETD_BOARD" buildroot-package/release.sh

# The image's root file system in the emulator, under the image's kernel with the emulator's devices.
# It tests what is there: whether to spend hours on building it is for a person to say.
image-test: setup
	@$(with_args) buildroot-package/image-test.sh $(python)
