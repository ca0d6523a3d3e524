"""The one error of the emulator: a sentence that says what happened, a hint what to do."""


class EmulatorError(Exception):
    """Something outside this program's hands went wrong, and a person can do something about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep the sentence and the hint; `str()` gives both."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Both sentences, the hint on a line of its own."""
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message
