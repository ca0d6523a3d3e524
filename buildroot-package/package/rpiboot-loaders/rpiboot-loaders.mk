################################################################################
#
# rpiboot-loaders
#
################################################################################

# Buildroot's host-raspberrypi-usbboot has those of January 2025. Since the
# commits c463123 and 86a3922 of April 2026 they start newer SDRAM; this is
# the last commit at which bootfiles.bin was changed.
RPIBOOT_LOADERS_VERSION = 58c1051777998637083b9d7d8b8700dabf97d468
RPIBOOT_LOADERS_SITE = https://raw.githubusercontent.com/raspberrypi/usbboot/$(RPIBOOT_LOADERS_VERSION)/firmware
RPIBOOT_LOADERS_SOURCE = bootfiles.bin
RPIBOOT_LOADERS_EXTRA_DOWNLOADS = $(RPIBOOT_LOADERS_SITE)/2711/bootcode4.bin
# Binaries: the licence of the repository that they are in is rpiboot's own,
# and none is beside them.
RPIBOOT_LOADERS_LICENSE = PROPRIETARY (Broadcom and Raspberry Pi, binaries)
RPIBOOT_LOADERS_REDISTRIBUTE = NO
RPIBOOT_LOADERS_INSTALL_TARGET = NO
RPIBOOT_LOADERS_INSTALL_IMAGES = YES

define RPIBOOT_LOADERS_EXTRACT_CMDS
	cp $(RPIBOOT_LOADERS_DL_DIR)/bootfiles.bin $(RPIBOOT_LOADERS_DL_DIR)/bootcode4.bin $(@D)
endef

define RPIBOOT_LOADERS_INSTALL_IMAGES_CMDS
	$(INSTALL) -D -m 0644 $(@D)/bootfiles.bin $(BINARIES_DIR)/rpiboot/bootfiles.bin
	$(INSTALL) -D -m 0644 $(@D)/bootcode4.bin $(BINARIES_DIR)/rpiboot/bootcode4.bin
endef

$(eval $(generic-package))
