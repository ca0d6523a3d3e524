################################################################################
#
# gadgetd
#
################################################################################

GADGETD_VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' $(GADGETD_SITE)/gadgetd/__init__.py)
GADGETD_SITE = $(BR2_EXTERNAL_GADGETD_PATH)/..
GADGETD_SITE_METHOD = local
GADGETD_SETUP_TYPE = setuptools
GADGETD_LICENSE = MIT
GADGETD_LICENSE_FILES = LICENSE

# Only what the wheel is made of: a checkout has test caches, images and
# perhaps old wheels in it.
GADGETD_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = \
	--exclude __pycache__ \
	--include /gadgetd --include '/gadgetd/**' \
	--include /pyproject.toml --include /README.md --include /LICENSE \
	--exclude '*'

# The PC's tool is no part of what is built here, so neither is its command.
define GADGETD_DROP_BOOTIMG
	$(SED) '/^gadgetd-bootimg = /d' $(@D)/pyproject.toml
endef
GADGETD_POST_RSYNC_HOOKS += GADGETD_DROP_BOOTIMG

# A module that is gone from the source must not stay in the image. The script
# too: Buildroot's installer refuses to replace one that it has no record of,
# and records are pruned.
define GADGETD_REMOVE_INSTALLED
	rm -rf $(TARGET_DIR)/usr/bin/gadgetd $(TARGET_DIR)/etc/gadgetd.yaml \
		$(TARGET_DIR)/usr/lib/python*/site-packages/gadgetd \
		$(TARGET_DIR)/usr/lib/python*/site-packages/gadgetd-*
endef
GADGETD_PRE_INSTALL_TARGET_HOOKS += GADGETD_REMOVE_INSTALLED

GADGETD_CONFIG = $(call qstrip,$(BR2_PACKAGE_GADGETD_CONFIG))
ifneq ($(GADGETD_CONFIG),)
define GADGETD_INSTALL_CONFIG
	$(INSTALL) -D -m 0644 $(GADGETD_CONFIG) $(TARGET_DIR)/etc/gadgetd.yaml
endef
GADGETD_POST_INSTALL_TARGET_HOOKS += GADGETD_INSTALL_CONFIG
endif

$(eval $(python-package))
