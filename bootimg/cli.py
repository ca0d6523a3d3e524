"""`gadgetd-bootimg`: exit codes, and what is said of a failure.

Exit status: 0 done; 1 the answer is no (`inspect`: would not boot, `verify`: not verified);
2 arguments that are not understood; 3 it could not be done, and no file was written; 128 and the
signal's number if a signal ended it.
"""

import os
import sys
from collections.abc import Sequence

from bootimg import arguments, commands, signals
from bootimg.commands import DONE, NO
from bootimg.errors import BootimgError, UsageError, plain

USAGE, FAILED = 2, 3
__all__ = ["DONE", "FAILED", "NO", "USAGE", "main"]
_PIPE, _INTERRUPTED = 13, 2


def main(given: Sequence[str] | None = None) -> int:
    """Run `gadgetd-bootimg`; returns its exit status."""
    try:
        with signals.as_exceptions():
            options = arguments.parse(sys.argv[1:] if given is None else given)
            status = commands.COMMANDS[options.command](options)
            if sys.stdout is not None:  # closed by who started this
                sys.stdout.flush()  # here, where a full disk can be told of
    except UsageError as error:
        _complain(error.message, error.hint)
        return USAGE
    except BootimgError as error:
        _complain(error.message, error.hint)
        return FAILED
    except ModuleNotFoundError as error:
        _complain(f"{error.name} is not installed", "pip install 'gadgetd[bootimg]'")
        return FAILED
    except BrokenPipeError:
        # Whoever read has enough; Python would try once more to write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return signals.STATUS + _PIPE
    except OSError as error:
        _complain(f"{error.filename or 'output'}: {error.strerror}", "")
        return FAILED
    except MemoryError:
        _complain("there is not enough memory", "")
        return FAILED
    except KeyboardInterrupt:
        return signals.STATUS + _INTERRUPTED
    return status


def _complain(message: str, hint: str) -> None:
    print(f"gadgetd-bootimg: {plain(message)}", file=sys.stderr)
    if hint:
        print(f"  hint: {plain(hint)}", file=sys.stderr)
