"""The command line: `latentthought COMMAND ...`, thin commands over the Python interface.

Only the module of the chosen command is imported, and a command imports torch and transformers when it runs, so that
`--help` and a mistyped option answer at once. Exit codes: 0; 1 a failure of ours or a damaged file; 2 the user's error (one
message, no traceback; `--debug` shows it); 75 preempted, resume with `--resume`; 130 and 141 as shells count an interrupt
and a closed pipe. Rejected: click and typer (a second place for defaults, and slower to start than the help they print).
"""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Sequence

from latentthought.errors import LatentThoughtError, UserError

INTERRUPTED = 130
PIPE_CLOSED = 141

# the deepspeed launcher puts it before everything else; the rank is in the environment too
_LAUNCHERS_OWN = re.compile(r"--local[_-]rank=\d+")

# a full disk, a full quota, a limit on the size of files
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# a path that the system does not let us read or write
_NOT_THERE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never raises but for `SystemExit` of `--help` and `--version`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and _LAUNCHERS_OWN.fullmatch(arguments[0]):
        del arguments[0]
    separator = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:separator]
    arguments = [a for i, a in enumerate(arguments) if a != "--debug" or i > separator]
    try:
        from latentthought.cli.commands import run

        code = run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # the reader (head, less) has gone: nothing to say, and nothing more may be written at shutdown
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt as error:
        if debug:
            traceback.print_exc()
        print(f"interrupted{f': {error}' if str(error) else ''}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return _report(error, debug)


def _report(error: Exception, debug: bool) -> int:
    """Say what went wrong on stderr; the exit code."""
    if debug:
        traceback.print_exc()
    expected = _expected(error)
    if expected is None:
        if not debug:
            traceback.print_exc()
        print(
            "latentthought: this is a failure of latentthought, not of your input; please report it",
            file=sys.stderr,
        )
        return 1
    message, code = expected
    print(f"latentthought: {message}", file=sys.stderr)
    return code


def _expected(error: Exception) -> tuple[str, int] | None:
    """The message and exit code of an error that the outside world can cause; None for a failure of ours."""
    if isinstance(error, LatentThoughtError):
        return ("error: " if isinstance(error, UserError) else "") + str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"no space left on the disk{_file_of(error)}; what was saved before is intact", 1
    # safetensors has an error of its own for it, told by its text only
    if type(error).__name__ == "SafetensorError" and re.search(
        rf"os error ({'|'.join(map(str, _FULL))})\b", str(error)
    ):
        return "no space left on the disk; what was saved before is intact", 1
    if isinstance(error, OSError) and error.errno in _NOT_THERE and error.filename:
        return f"error: {error.strerror}{_file_of(error)}", 2
    if type(error).__name__ == "OutOfMemoryError":  # torch's; importing torch only to name it costs seconds
        return f"out of memory on the device; lower engine.micro_batch_size or --batch-size ({error})", 1
    return None


def _file_of(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""
