"""Whether the Hugging Face hub can be reached, asked once and quickly.

The hub libraries retry for 20 to 50 seconds before they give up, so one short request is made first. It goes through the
machine's proxy settings and runs in a thread, since a name lookup has no time limit of its own. Without the hub, what lies in
the local cache is still used, as `HF_HUB_OFFLINE=1` does.
"""

from __future__ import annotations

import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

PROBE_SECONDS = 5.0
_TRUE = ("1", "ON", "YES", "TRUE")
_SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def offline_reason() -> str | None:
    """Why the hub is out of reach, in a few words; None when it answers."""
    switch = next((name for name in _SWITCHES if os.environ.get(name, "").upper() in _TRUE), None)
    if switch:
        return f"{switch} is set"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return None if _answers(endpoint) else f"no answer within {PROBE_SECONDS:.0f} s"


@contextmanager
def cache_only(active: bool = True) -> Iterator[None]:
    """Let the hub libraries use their local cache only, while inside.

    Each read its switch once, at import, and looks at it again at each call.
    """
    import huggingface_hub.constants

    modules: list[Any] = [huggingface_hub.constants]
    if "datasets" in sys.modules:
        import datasets.config

        modules.append(datasets.config)
    before = [module.HF_HUB_OFFLINE for module in modules]
    for module in modules:
        module.HF_HUB_OFFLINE = active or module.HF_HUB_OFFLINE
    try:
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value


@lru_cache
def _answers(endpoint: str) -> bool:
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "latentthought"})
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()  # a refusal is an answer
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, name="hub-probe", daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()
