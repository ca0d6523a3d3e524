"""Which disks there are, and what becomes of their data."""
