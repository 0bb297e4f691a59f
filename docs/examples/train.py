"""Train with `LatentThoughtTrainer`, a `transformers.Trainer` that walks the stages of a curriculum.

python docs/examples/train.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tiny import CURRICULUM, EXAMPLES, FORMAT, tiny_arguments, tiny_model, tiny_tokenizer

from latentthought import LatentThoughtTrainer
from latentthought.data.encoding import Encoder


def main(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    trainer = LatentThoughtTrainer(
        model,
        tiny_arguments(str(folder)),
        train_dataset=Encoder(tokenizer, FORMAT).encode_all(EXAMPLES),
        curriculum=CURRICULUM,
        objective=[{"term": "ce"}],
        pad_id=tokenizer.pad_token_id,
    )
    trainer.train()

    # what `generate` does unless told otherwise, and how `evaluate` prompts
    model.set_thought(thoughts=CURRICULUM.thoughts())
    model.config.prompt_format = FORMAT.dump()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")

    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        print(f"step {row['step']:>3}  {row['stage']:<9} loss {row['loss']:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
