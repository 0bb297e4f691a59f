"""Make transformers' Auto classes know our model, without importing transformers before somebody else does.

`import latentthought` has to stay quick (transformers takes seconds), and yet `AutoModelForCausalLM.from_pretrained(dir)` has to
work after it. So where transformers' auto modules are not loaded yet, a finder on `sys.meta_path` waits for them and registers
right after they have run; it loads nothing itself.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

# transformers' module -> ours, which registers its class at its end
_OURS = {
    "transformers.models.auto.configuration_auto": "latentthought.model.configuration",
    "transformers.models.auto.modeling_auto": "latentthought.model.modeling",
}


def _register(auto_module: str) -> None:
    # where ours is what asked for transformers, it is half imported now and registers when it is done
    if _OURS[auto_module] not in sys.modules:
        importlib.import_module(_OURS[auto_module])


class _RegisterAfter(importlib.abc.MetaPathFinder):
    """Lets the ordinary finders find an auto module, and registers once it has run."""

    def __init__(self) -> None:
        self._waiting = set(_OURS)

    def find_spec(
        self, name: str, path=None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._waiting:
            return None
        self._waiting.discard(name)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            run(module)
            _register(name)

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


def register_auto_classes() -> None:
    """Register now what is loaded, and the rest when it gets loaded."""
    loaded = [name for name in _OURS if name in sys.modules]
    if len(loaded) < len(_OURS):
        sys.meta_path.insert(0, _RegisterAfter())
    for name in loaded:
        _register(name)
