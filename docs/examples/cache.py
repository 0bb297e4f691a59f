"""Store a teacher's hidden states once, check them, and read them by the id of an example.

    python docs/examples/cache.py FOLDER

`latentthought teacher extract RECIPE` does this by a recipe, resumable and in several processes; a recipe with the same
`teacher.cache` then trains from the folder, and the teacher is not even loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tiny import CURRICULUM, EXAMPLES, FORMAT, tiny_model, tiny_tokenizer

from latentthought import Teacher, TeacherConfig, TeacherStateCache
from latentthought.data.example import ExampleSet
from latentthought.distillation.extraction import Extractor
from latentthought.distillation.fingerprints import example_digest
from latentthought.distillation.matching import TeacherFacts, spec_for


def main(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    teacher = Teacher(tiny_model(tokenizer, seed=1, width=48), tokenizer)
    config = TeacherConfig.parse({"model": "in memory", "cache": {"path": str(folder), "codec": "bf16"}})

    reader = teacher.reader(config, FORMAT, CURRICULUM)
    readings = reader.read(EXAMPLES)
    facts, data = TeacherFacts.of(teacher), ExampleSet(EXAMPLES).fingerprint
    spec = spec_for(facts, config, FORMAT, CURRICULUM, data, layers=(1, 2), rules=("reasoning", "answer"))
    digests = [example_digest(EXAMPLES[place]) for place in readings.kept]
    extractor = Extractor(teacher, reader.collate, readings, spec, digests)
    folder.mkdir(parents=True, exist_ok=True)
    missing, there = extractor.missing(folder)  # after a kill: what is whole is not made again
    extractor.run(folder, missing, there)

    cache = TeacherStateCache.open(folder)
    states = cache[EXAMPLES[0].id]  # {layer: (positions, width) float32}; every read is checked
    print(f"{len(cache)} rows, {cache.manifest.positions} positions, {cache.manifest.bytes:,} bytes")
    print({layer: tuple(state.shape) for layer, state in states.items()})
    print("damaged:", cache.verify())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
