"""Faithfulness over a data set: what each thought does to the answer, and what can be read off it.

The answers of all rows are written first, then every thought of every row is changed (`model.interventions`) and the same answer
is scored again. A swapped thought comes from a row whose step has another result than this row's; beside it stands one from a row
whose step has the same result (`alike`), which should change nothing: a thought that stands for its step breaks the answer
exactly when it should. Where a program knows what the other result leads to in this row's own puzzle (tables of links), the
answer is asked for that too (`led`; interchange interventions, Geiger et al. 2021, arXiv 2106.02997).

The cost is that of 2 S (draws + 3) scored passes a row in batches, half of them with the thinking before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentthought.data.example import Example, ExampleSet
from latentthought.errors import ConfigError
from latentthought.evaluation.inspection.effects import EffectsOfChanges
from latentthought.evaluation.inspection.probing import probe
from latentthought.evaluation.inspection.prompt import Asked, Inspector, check_thinks
from latentthought.evaluation.inspection.results import Faithfulness, Inspection
from latentthought.evaluation.inspection.rows import AnsweredRow, Asking, find_donors, thoughts_per_step
from latentthought.evaluation.models import (
    context_of,
    evaluating,
    name_of,
    plain_greedy,
    positions_taken,
    tokenizer_of,
)
from latentthought.evaluation.provenance import git_state, versions, weights_fingerprint
from latentthought.evaluation.statistics import estimate
from latentthought.evaluation.tasks import TaskConfig, load_data, load_task

# rows that are looked into one by one
_SHOWN = 3


def faithfulness(
    model: Any,
    task: str | Path | TaskConfig,
    *,
    tokenizer: Any = None,
    data: str | Path | ExampleSet | list[Example] | None = None,
    limit: int | None = None,
    thoughts: int | None = None,
    draws: int = 4,
    noise: float = 1.0,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = True,
    smoke: bool = False,
) -> tuple[Faithfulness, list[Inspection]]:
    """Causal effects and probes of every thought over the rows of a task, and a few rows looked into one by one.

    Args:
        model, task, tokenizer, data, limit, seed, smoke: as in `evaluate`.
        thoughts: how many; None is what the model was trained with.
        draws, noise: of noised thoughts, and its size relative to the thought.
        batch_size: prompts at a time; each stands in up to `effects.COPIES` rows.

    Raises: `UserError`s for a bad task, setting or row, and for a model without thoughts.
    """
    task = load_task(task)
    count = getattr(getattr(model, "thought", None), "thoughts", 0) if thoughts is None else thoughts
    check_thinks(model, count)
    examples = load_data(task, data, limit, seed=seed, smoke=smoke)
    asking = Asking(model, tokenizer or tokenizer_of(model), task, count, batch_size, progress)
    with evaluating(model), plain_greedy(model):
        rows = asking.answered(examples, task.few_shot.draw(task.data, seed=seed, smoke=smoke))
        if len(rows) < 2:
            raise ConfigError(
                f"task {task.name}: {len(rows)} of its {len(examples)} rows fit into the model's context; two are needed"
            )
        each = thoughts_per_step(model, count, rows)
        steps = [None if each is None else thought // each for thought in range(count)]
        states, inputs = asking.thought_about(rows)
        donors = find_donors(rows, steps)
        measuring = EffectsOfChanges(asking, rows, inputs, donors, steps, draws, noise, seed)
        effects = measuring.measure()
        probes, remark = probe(states.float(), [row.results for row in rows], seed)
        shown = _looked_into(asking, rows[: _SHOWN + 1], draws, noise, seed)
    result = Faithfulness(
        task=task.name,
        version=task.version,
        model=name_of(model),
        thoughts=count,
        rows=len(rows),
        unfit=len(examples) - len(rows),
        accuracy=estimate({row.number: [float(row.right)] for row in rows}),
        per_step=each,
        draws=draws,
        noise=noise,
        effects=tuple(effects),
        probes=tuple(probes),
        remarks=tuple(_remarks(remark, each, len(measuring.unsettled), len(rows))),
        settings={
            "format": asking.format.dump(),
            "seed": seed,
            "data": examples.fingerprint,
            "origin": examples.origin,
            "weights": weights_fingerprint(model),
        },
        versions=versions(),
        git=git_state(),
    )
    return result, shown


def _remarks(of_probes: str, per_step: int | None, unsettled: int, rows: int) -> list[str]:
    unknown = (
        "a swapped thought is the next row's, whatever it stands for: these rows have no steps to compare"
    )
    close = (
        f"{unsettled} of {rows} answers are not what the model says when they are scored again, by the rounding of two likeliest "
        "words: they are left out of the answers that change"
    )
    return [
        *([of_probes] if of_probes else []),
        *([unknown] if per_step is None else []),
        *([close] if unsettled else []),
    ]


def _looked_into(
    asking: Asking, rows: list[AnsweredRow], draws: int, noise: float, seed: int
) -> list[Inspection]:
    """The first rows, each with the thoughts of the next one."""
    task, context = asking.task, context_of(asking.model)
    inspector = Inspector(
        asking.model,
        asking.tokenizer,
        asking.thoughts,
        draws,
        noise,
        max_new_tokens=task.max_new_tokens,
        seed=seed,
        batch_size=asking.batch_size,
    )
    asked = [
        Asked(row.example.id, row.example.question, row.prompt, row.example.steps, row.example.answer)
        for row in rows
    ]
    taken = positions_taken(asking.model, asking.thoughts)
    found = []
    for place, one in enumerate(asked[:_SHOWN]):
        room = None if context is None else context - len(one.prompt) - taken
        found.append(inspector.look(one, asked[(place + 1) % len(asked)], room))
    return found
