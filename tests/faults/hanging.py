"""One of several processes that train, started without a launcher: `python -m tests.faults.hanging RECIPE OUTPUT [STEP PLACE]`.

With STEP, the process of rank 1 hangs in that step: in its `beginning`, in `backward`, or (`interpreter`) in C code that lets no
other thread of Python run.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from latentthought.config import read_yaml
from latentthought.recipe import Recipe
from latentthought.training.progress import Silent
from latentthought.training.run import train


class Hang(TrainerCallback):
    def __init__(self, step: int, place: str) -> None:
        self.step, self.place = step, place

    def _maybe(self, place: str, step: int) -> None:
        if (place, step) == (self.place, self.step) and os.environ["RANK"] == "1":
            never_comes_back()

    def on_step_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self._maybe("beginning", state.global_step + 1)
        if (self.place, self.step) == ("interpreter", state.global_step + 1) and os.environ["RANK"] == "1":
            ctypes.PyDLL(None).sleep(600)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self._maybe("optimizer", state.global_step + 1)


def never_comes_back() -> None:
    time.sleep(600)


if __name__ == "__main__":
    recipe, output, *hang = sys.argv[1:]
    callbacks = (Hang(int(hang[0]), hang[1]),) if hang else ()
    train(
        Recipe.parse(read_yaml(Path(recipe)), recipe),
        output,
        resume=Path(output).is_dir(),
        progress=Silent(),
        callbacks=callbacks,
    )
