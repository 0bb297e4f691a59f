"""Rows of a hub data set, or one line within seconds saying that the hub cannot be reached.

`datasets` retries for 20 to 50 seconds before it gives up, so one short request is made first. It goes through the machine's
proxy settings and runs in a thread, since a name lookup has no time limit of its own. Without the hub, a copy in the local
`datasets` cache is used, as `HF_HUB_OFFLINE=1` does.
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from latentthought.data.sources.base import HubLocation
from latentthought.errors import DataError, HubUnreachableError, NotFoundError

PROBE_SECONDS = 5.0
_TRUE = ("1", "ON", "YES", "TRUE")


def offline_requested() -> str | None:
    """The environment variable that asks for no hub calls, if one does."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").upper() in _TRUE), None)


def hub_reachable(timeout: float = PROBE_SECONDS) -> bool:
    """Whether the hub (or the mirror named by HF_ENDPOINT) answers at all within `timeout` seconds."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "latentthought"})
        try:
            with urllib.request.urlopen(request, timeout=timeout):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()  # a refusal is an answer
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, name="hub-probe", daemon=True)
    thread.start()
    thread.join(timeout)
    return answered.is_set()


def hub_rows(location: HubLocation, split: str, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, row) of a hub split.

    Raises HubUnreachableError, NotFoundError (no such set) or DataError (gated, damaged).
    """
    offline = offline_requested()
    reason = f"{offline} is set" if offline else f"no answer within {PROBE_SECONDS:.0f} s"
    use_cache_only = bool(offline) or not hub_reachable()
    for configuration, hub_split in location.splits[split]:
        table = _load(location, configuration, hub_split, source, use_cache_only, reason)
        name = "/".join(part for part in (location.repo, configuration, hub_split) if part)
        for number, row in enumerate(table, 1):
            yield f"{name}, row {number}", row


def _load(
    location: HubLocation,
    configuration: str | None,
    split: str,
    source: str,
    use_cache_only: bool,
    reason: str,
) -> Any:
    import datasets

    with _cache_only() if use_cache_only else nullcontext():
        try:
            return datasets.load_dataset(
                location.repo, configuration, split=split, revision=location.revision
            )
        except Exception as error:  # the library raises a dozen kinds, from three packages
            text = (str(error).splitlines() or [type(error).__name__])[0]
            if use_cache_only or (isinstance(error, OSError) and not isinstance(error, FileNotFoundError)):
                raise HubUnreachableError(
                    f"cannot load {location.repo!r} (source {source!r}) from the hub: {reason if use_cache_only else text}; "
                    "to read a local copy, give data.path=FILE or set LATENTTHOUGHT_DATA to a folder that holds it"
                ) from None
            kind = NotFoundError if isinstance(error, FileNotFoundError) else DataError
            raise kind(
                f"hub data set {location.repo!r} (source {source!r}): {text}; a local copy: data.path=FILE"
            ) from None


@contextmanager
def _cache_only() -> Iterator[None]:
    """Both libraries read their switch once, at import, and look at it again at each call."""
    import datasets.config
    import huggingface_hub.constants

    modules: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [module.HF_HUB_OFFLINE for module in modules]
    for module in modules:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value
