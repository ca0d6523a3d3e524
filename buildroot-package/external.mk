include $(sort $(wildcard $(BR2_EXTERNAL_GADGETD_PATH)/package/*/*.mk))

# A symbol that a fragment asks for and the kernel does not take would be a driver (or a program)
# missing on the board, without a word.
define GADGETD_CHECK_LINUX_CONFIG
	$(BR2_EXTERNAL_GADGETD_PATH)/board/cm4/check-kconfig.sh $(LINUX_DIR)/.config \
		$(LINUX_KCONFIG_FILE) $(LINUX_KCONFIG_FRAGMENT_FILES)
endef
LINUX_PRE_BUILD_HOOKS += GADGETD_CHECK_LINUX_CONFIG

define GADGETD_CHECK_BUSYBOX_CONFIG
	$(BR2_EXTERNAL_GADGETD_PATH)/board/cm4/check-kconfig.sh $(BUSYBOX_DIR)/.config \
		$(BUSYBOX_KCONFIG_FRAGMENT_FILES)
endef
BUSYBOX_PRE_BUILD_HOOKS += GADGETD_CHECK_BUSYBOX_CONFIG

# What manifest.py says about versions and licences. A kernel that is given as a commit has the
# version "custom" in Buildroot; which one it is, it says itself.
GADGETD_VERSION_OF = $(if $(filter linux,$(1)),\
	$(shell cat $(LINUX_DIR)/include/config/kernel.release),\
	$($(call UPPERCASE,$(1))_VERSION))
define GADGETD_PACKAGE_LIST
	$(file >$(BUILD_DIR)/gadgetd-packages.txt,buildroot|$(BR2_VERSION)|GPL-2.0+)
	$(foreach p,$(sort $(PACKAGES)),\
		$(file >>$(BUILD_DIR)/gadgetd-packages.txt,$(p)|$(strip $(call GADGETD_VERSION_OF,$(p)))|$($(call UPPERCASE,$(p))_LICENSE)))
endef
TARGET_FINALIZE_HOOKS += GADGETD_PACKAGE_LIST
