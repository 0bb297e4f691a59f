"""Score a model with every control: the same questions, with the meaning taken out of its thoughts.

    python docs/examples/evaluate.py FOLDER [MODEL FOLDER]

FOLDER gets `results/sums/<control>/`. Without a model folder an untrained one is scored, and gets nothing right.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tiny import EXAMPLES, FORMAT, tiny_model, tiny_tokenizer

from latentthought import LatentThoughtForCausalLM, evaluate
from latentthought.evaluation import load_task


def main(folder: Path, model_folder: str | None) -> None:
    tokenizer = None  # the one beside the model
    if model_folder is None:
        tokenizer = tiny_tokenizer()
        model = tiny_model(tokenizer).eval()
        model.set_thought(thoughts=2)
    else:
        model = LatentThoughtForCausalLM.from_pretrained(model_folder).eval()
    task = load_task("file", changes={"name": "sums", "default_format": FORMAT.dump()})
    results = evaluate(
        model,
        task,
        tokenizer=tokenizer,
        data=EXAMPLES[:32],  # a task has a source of its own; these are given rows
        control="all",
        max_new_tokens=8,
        output=folder,
        progress=False,
    )
    for control, found in results.controls.items():
        lost = found.against_none
        more = "" if lost is None else f", {100 * lost.difference:.1f} points lost"
        accuracy = found.accuracy
        print(f"{control:<11} {accuracy.value:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%}){more}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
