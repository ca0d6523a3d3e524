"""The status as a person or a program sees it. Decides nothing."""
