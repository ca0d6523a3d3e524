"""What gadgetd-bootimg can fail with."""


class BootimgError(Exception):
    """A sentence that says what is wrong and where; `hint` says what to do and may be empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
