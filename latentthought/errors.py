"""One error family.

Every error is an ordinary Python error too (`ConfigError` is a `ValueError`, a missing file a `FileNotFoundError`), so
code that knows nothing of this package still catches it. The command line turns a `UserError` into one message and exit
code 2, `Preempted` into 75, and everything else into 1; nothing else in the package knows about exit codes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LatentThoughtError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class UserError(LatentThoughtError):
    """Something that the user can put right: the message says what, where, and what is allowed."""

    exit_code = 2


class ConfigError(UserError, ValueError):
    """A recipe, task, setting or argument that does not hold; lists every problem found at once."""


class DataError(UserError, ValueError):
    """A row or data file that cannot be read; names the file and line."""


class NotFoundError(UserError, LookupError):
    """An unknown name (recipe, task, source, token); lists the nearest matches."""


class MissingFileError(UserError, FileNotFoundError):
    """A path that does not exist."""

    # OSError would print its arguments as a tuple
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class FolderInUseError(UserError, FileExistsError):
    """An output folder that holds something already, or that another run is writing to."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class HubUnreachableError(UserError, ConnectionError):
    """The model or data hub cannot be reached; names the local-path option."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class MissingExtraError(UserError, ImportError):
    """An optional dependency is absent; names the extra that brings it."""


class UnsupportedError(UserError, NotImplementedError):
    """A combination that would be silently wrong and is therefore refused."""


class DamagedFileError(LatentThoughtError, OSError):
    """A file that was written by this package and no longer reads as such."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class Preempted(LatentThoughtError):
    """The run was asked to stop, saved itself, and can be resumed."""

    exit_code = 75


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names closest to `name`, best first, whatever their case; empty when nothing is near.

    Names that hold `name` as a part come after those that are spelt like it: `prosqa` finds `coconut-prosqa-gpt2`.
    """
    folded = {other.casefold(): other for other in known}
    key = name.casefold()
    close = difflib.get_close_matches(key, folded, n=count, cutoff=0.6)
    parts = sorted(
        (other for other in folded if len(key) > 2 and key in other and other not in close), key=len
    )
    return [folded[other] for other in [*close, *parts][:count]]


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """`unknown recipe 'cocnut': did you mean coconut? Known: ...` as one line."""
    known = sorted(known)
    close = nearest(name, known)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}."


def require_extra(module: str, extra: str, purpose: str):
    """Import and return `module`, or raise `MissingExtraError` naming the extra that brings it.

    Any exception counts: a transformer-engine without its CUDA library raises RuntimeError on import.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except Exception as error:
        raise MissingExtraError(
            f"{purpose} needs {module.split('.')[0]}, which does not import ({error}): pip install 'latentthought[{extra}]'"
        ) from error
