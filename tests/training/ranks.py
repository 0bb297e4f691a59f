"""Several runs, one after the other, on several processes that each run `python -m tests.training.ranks JOBS`.

The runs of a matrix share their processes, whose start and group take as long as a tiny run. JOBS is a JSON list of
[recipe file, output folder, {stop: step at which to ask the run to stop, chunk: bytes of logits held at once, full: whether
the first process finds its disk full when it writes the optimizer's states, scored: whether a scorer generates, poison: id of
a row that spoils its steps}].
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentthought.config import write_yaml
from latentthought.recipe import Recipe
from tests.warm import run_ranks

Job = tuple[Recipe, Path, dict[str, Any]]


def run_on(processes: int, jobs: Sequence[Job], folder: Path, timeout: int = 500) -> str:
    """Train all jobs on so many processes, resuming what is there; what they printed. Fails with it when one of them fails."""
    folder.mkdir(exist_ok=True)
    listed = []
    for number, (recipe, output, options) in enumerate(jobs):
        path = folder / f"{number}.yaml"
        write_yaml(path, recipe.dump())
        listed.append([str(path), str(output), options])
    (folder / "jobs.json").write_text(json.dumps(listed), encoding="utf-8")
    return run_ranks(processes, "tests.training.ranks", [str(folder / "jobs.json")], folder, timeout)


def main(path: str) -> None:
    """Every process of a launcher runs this."""
    from safetensors.torch import save_file
    from transformers import TrainerCallback

    from latentthought.config import read_yaml
    from latentthought.errors import LatentThoughtError, Preempted
    from latentthought.model import chunks, scoring
    from latentthought.training import optimizer_state, zero
    from latentthought.training.progress import Silent
    from latentthought.training.run import train
    from tests.training.poison import Poison

    class Asked(TrainerCallback):
        """Asks the run to stop, as a signal would."""

        def __init__(self, step: int) -> None:
            self.step = step

        def on_step_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            if state.global_step == self.step - 1:
                os.kill(os.getpid(), signal.SIGTERM)

    warnings.filterwarnings("ignore", category=FutureWarning)
    usually = chunks.CHUNK_BYTES, scoring.RECOMPUTED_BYTES
    zero.PERSISTENT = 0  # tiny weights too are dealt out, and brought together when they are needed
    for recipe, output, options in json.loads(Path(path).read_text(encoding="utf-8")):
        chunks.CHUNK_BYTES, scoring.RECOMPUTED_BYTES = (options.get("chunk", usual) for usual in usually)
        optimizer_state.save_file = _full_disk if options.get("full") else save_file
        asked = (Asked(options["stop"]),) if "stop" in options else ()
        poison = (Poison(options["poison"]),) if "poison" in options else ()
        try:
            train(
                Recipe.parse(read_yaml(Path(recipe)), recipe),
                output,
                resume=Path(output).is_dir(),
                progress=Silent(),
                callbacks=(*asked, *poison),
                scorer=uneven_lengths if options.get("scored") else None,
            )
        except Preempted:
            if not asked:
                raise
        except LatentThoughtError as error:
            if not options.get("full"):
                raise
            print(f"rank {os.environ['RANK']}: {error}")


def uneven_lengths(model: Any, tokenizer: Any, *, thoughts: int, mix_ratio: float) -> dict[str, float]:
    """A scorer of rows that think and write for different lengths: what was written, and how many lengths there were."""
    import torch

    prompts = tokenizer(
        ["a e h", "b", "c f", "d g i"], padding=True, padding_side="left", return_tensors="pt"
    )
    output = model.generate(
        prompts["input_ids"],
        attention_mask=prompts["attention_mask"],
        thoughts=[min(thoughts, row) for row in (2, 0, 1, 2)],
        max_new_tokens=8,
        eos_token_id=list(range(0, len(tokenizer), 3)),
        pad_token_id=1,
    )[:, prompts["input_ids"].shape[1] :]
    ends = output % 3 == 0
    lengths = torch.where(ends.any(1), ends.int().argmax(1), output.shape[1])
    places = torch.arange(1, output.shape[1] + 1)
    return {"words": float((output * places).sum()), "lengths": float(len(set(lengths.tolist())))}


def _full_disk(*unused: Any, **unused_too: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


if __name__ == "__main__":
    main(sys.argv[1])
