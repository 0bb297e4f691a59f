"""Distil from a live teacher: its distributions and its hidden states, beside the task's own loss.

python docs/examples/distil.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from tiny import CURRICULUM, EXAMPLES, FORMAT, tiny_arguments, tiny_model, tiny_tokenizer

from latentthought import LatentThoughtTrainer, TeacherConfig
from latentthought.data.encoding import Encoder
from latentthought.distillation.guidance import attach_companions, guide
from latentthought.distillation.pupil import Pupil
from latentthought.objective.terms import as_term

# as a recipe would say it
OBJECTIVE = """
- {term: ce, weight: 0.4}
- {term: kl, weight: 0.4, temperature: 2.0}
- {term: hidden, weight: 0.2, target: teacher, alignment: shared, layers: uniform, scale_match: rms, projector: {kind: linear}}
"""


def main(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    student = tiny_model(tokenizer)
    teacher = tiny_model(tokenizer, seed=1, width=48)  # wider, hence the projector
    teacher.save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")

    rows = Encoder(tokenizer, FORMAT).encode_all(EXAMPLES)
    pupil = Pupil(student, tokenizer, EXAMPLES, rows, FORMAT, CURRICULUM)
    terms = [as_term(term) for term in yaml.safe_load(OBJECTIVE)]
    guidance = guide(terms, TeacherConfig(model=str(folder / "teacher")), pupil)
    attach_companions(student, guidance, tokenizer)  # projectors: inside the model, so that they train
    print("\n".join(guidance.lines))
    trainer = LatentThoughtTrainer(
        student,
        tiny_arguments(str(folder)),
        train_dataset=[rows[place] for place in guidance.kept],
        curriculum=CURRICULUM,
        objective=guidance.objective,
        teacher=guidance.teacher,
        teaching=guidance.teaching,
        pad_id=tokenizer.pad_token_id,
    )
    trainer.train()
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    print({name: round(value, 4) for name, value in last.items() if name.startswith("loss")})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
