"""Lessons of live and cached teachers: what they hold, what they read and what they report."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from latentthought.data.encoding import Encoder
from latentthought.data.example import Example
from latentthought.distillation import teaching
from latentthought.distillation.cache.store import TeacherStateCache
from latentthought.distillation.reader import Reader, whole_text
from latentthought.distillation.teaching import CachedTeaching, LiveTeaching
from latentthought.objective.alignment import Reading, sites
from latentthought.objective.comparison import Depths
from latentthought.objective.total import Objective
from latentthought.thoughts.layout import ThoughtTokens
from tests.distillation.taught import FORMAT, LATENT, config, examples, extractor, teacher, tokenizer

TOKENS = ThoughtTokens(390, 391, 392)
RULES = ("step_ends", "reasoning")


def terms(*rules: str) -> list[Any]:
    return [
        {"term": "hidden", "name": rule, "target": "teacher", "alignment": rule, "layers": [[1, 3], [1, 1]]}
        for rule in rules
    ]


def live(rows: Any, objective: Objective) -> LiveTeaching:
    reader = Reader(tokenizer(), FORMAT, whole_text(LATENT), TOKENS)
    read = reader.read(rows)
    return LiveTeaching(
        objective, [reading.encoded for reading in read.readings], read.readings, reader.collate
    )


def test_nothing_of_a_row_is_kept_after_its_lesson() -> None:
    long = [Example(f"r{n}", "what is 1", (f"{n} and " * 200,) * 2, "1") for n in range(40)]
    made = live(long, Objective(terms(*RULES), Depths(2, 3)))
    rows = [LATENT.layout(encoded, 1, None, TOKENS) for encoded in made.rows]
    made.lesson(0, rows[0])
    gc.collect()
    tracemalloc.start()
    for index, row in enumerate(rows):
        assert len(made.lesson(index, row).pairs["reasoning"][0]) > 200
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 40 * 100  # the sites of one row alone are more than that


def test_a_live_batch_points_at_the_same_words_on_both_sides() -> None:
    made = live(examples(), Objective([*terms("reasoning"), {"term": "kl"}], Depths(2, 3)))
    rows = [LATENT.layout(encoded, 1, None, TOKENS) for encoded in made.rows]
    chosen, before = (2, 8, 1), [3, 0, 5]
    batch = made.collate([made.lesson(index, rows[index]) for index in chosen], before)
    width = max(len(rows[index]) + left for index, left in zip(chosen, before, strict=True))
    ids_BT = torch.zeros(3, width + 1, dtype=torch.int64)
    for place, (index, left) in enumerate(zip(chosen, before, strict=True)):
        ids_BT[place, left : left + len(rows[index])] = torch.tensor(rows[index].ids)
    total = {"hidden": 0, "kl": 0}
    for term, shift, known in (("reasoning", 0, "hidden"), ("kl", 1, "kl")):
        found = batch["comparisons"][term]
        mine, theirs = found.student, found.teacher
        left = ids_BT[mine.rows_M, mine.columns_M + shift]
        right = batch["teacher"]["input_ids"][theirs.rows_M, theirs.columns_M + shift]
        assert torch.equal(left, right) and torch.equal(mine.rows_M, theirs.rows_M)
        total[known] = len(mine)
    # each word after the first step, which the student has as thoughts; for kl those of the answer too
    words = sum(len(step) for index in chosen for step in made.rows[index].steps[1:])
    answers = sum(len(made.rows[index].answer) for index in chosen)
    assert total == {"hidden": words, "kl": words + answers}


@pytest.mark.parametrize("logits", [{"kind": "top_k", "k": 4}, {"kind": "sampled", "n": 3}])
def test_a_cached_lesson_reads_keys_and_a_batch_what_it_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logits: dict[str, Any]
) -> None:
    settings = config(cache={"logits": logits})
    one = extractor(settings, teacher(settings), rules=("reasoning", "step_ends", "answer"))
    (tmp_path / "states").mkdir()
    one.run(tmp_path / "states", *one.missing(tmp_path / "states"))
    cache = TeacherStateCache.open(tmp_path / "states")
    records = {name: cache.record(name) for name in cache.ids}
    objective = Objective([*terms(*RULES), {"term": "kl"}], Depths(2, 3))
    encoded = Encoder(tokenizer(), FORMAT).encode_all(examples())
    made = CachedTeaching(objective, encoded, cache)
    rows = [LATENT.layout(row, 1, None, TOKENS) for row in encoded]

    def refused(*_: Any) -> Any:
        raise AssertionError("states were read")

    with monkeypatch.context() as patch:
        for method in ("record", "states", "logits"):
            patch.setattr(TeacherStateCache, method, refused)
        lessons = [made.lesson(index, rows[index]) for index in (7, 3, 0)]
    monkeypatch.setattr(TeacherStateCache, "record", refused)
    comparisons = made.collate(lessons, [0, 0, 0])["comparisons"]
    # block 3 of 3 is after the final norm
    layers = [cache.manifest.spec.layers.index(layer) for layer in (-1, 1)]
    for number, rule in ((1, "step_ends"), (0, "reasoning")):
        expected = []
        for index in (7, 3, 0):
            record, reading = records[encoded[index].id], Reading(rows[index], encoded[index])
            known = {tuple(key): place for place, key in enumerate(record.keys.tolist())}
            keys = [(number, site.piece, site.end) for site in sites(reading, rule)]  # type: ignore[arg-type]
            expected += [record.states[known[key]][layers] for key in keys if key in known]
        assert len(expected) > 2 and torch.equal(comparisons[rule].states, torch.stack(expected))
    picked = []
    for index in (7, 3, 0):
        kept = records[encoded[index].id].logits
        known = {tuple(key): place for place, key in enumerate(kept.keys.tolist())}
        reading = Reading(rows[index], encoded[index])
        picked += [kept.ids[known[site.piece, site.end]] for site in sites(reading, "predictions")]
    assert torch.equal(comparisons["kl"].words.ids, torch.stack(picked))


def test_rows_count_once_and_only_when_no_stage_had_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    made = live(examples(), Objective(terms(*RULES), Depths(2, 3)))
    bare = [index for index, row in enumerate(made.rows) if not row.steps]
    short = [index for index, row in enumerate(made.rows) if len(row.steps) == 1]
    assert len(bare) == 3 and short
    for stage in (2, 2, 1):  # one step is a thought in both: reasoning has no word to compare
        for index, encoded in enumerate(made.rows):
            made.lesson(index, LATENT.layout(encoded, stage, None, TOKENS))
    report = made.report()
    assert report.startswith(f"{len(bare) + len(short)} rows had no position")
    assert f"sum-{bare[0]} (step_ends, reasoning)" in report and f"sum-{short[0]} (reasoning)" in report
    for stage in (0, 2):  # what a row had once counts, also when it has nothing later
        for index in short:
            made.lesson(index, LATENT.layout(made.rows[index], stage, None, TOKENS))
    assert made.report().startswith("3 rows had no position") and "sum-1 " not in made.report()

    def gathered(everyone: list[Any], mine: Any) -> None:
        """Another process has seen no row but the first, and that with something to compare."""
        other = {rule: bytearray(len(seen)) for rule, seen in mine.items()}
        for seen in other.values():
            seen[bare[0]] = 2
        everyone[:] = [mine, other]

    monkeypatch.setattr(teaching.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(teaching.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(teaching.distributed, "all_gather_object", gathered)
    assert made.report().startswith("2 rows had no position")
    made.forget()
    monkeypatch.setattr(teaching.distributed, "is_initialized", lambda: False)
    assert made.report() == ""
