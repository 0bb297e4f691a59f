"""Scoring during training: a callable that the trainer calls and knows nothing about.

Same prompts, batches, judge and greedy decoding as `evaluate`, without files. It leaves no trace: random state, module modes
and gradients are as before, so a run with validation trains exactly as one without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latentthought.data.encoding import FormatConfig
from latentthought.data.example import Example, ExampleSet
from latentthought.evaluation.decoding import Decoding
from latentthought.evaluation.few_shot import Prompter
from latentthought.evaluation.generation import Generator, Request
from latentthought.evaluation.judging import judge
from latentthought.evaluation.models import evaluating, thought_ends_of
from latentthought.evaluation.tasks import TaskConfig, load_data, load_task

Scorer = Callable[..., dict[str, float]]


def validation_scorer(
    task: str | Path | TaskConfig,
    tokenizer: Any,
    *,
    examples: ExampleSet | list[Example] | None = None,
    shots: list[Example] | None = None,
    limit: int | None = None,
    format: FormatConfig | None = None,
    max_new_tokens: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    smoke: bool = False,
) -> Scorer:
    """A function `score(model, thoughts=None, mix_ratio=None, control="none") -> {"accuracy": ..., ...}`.

    Args:
        task: how to judge, and the rows unless `examples` are given. limit: first rows only. shots: the task's few-shot
            examples, None to draw them.
        format: the prompt format of training; None asks each model for its own, as `evaluate` does.

    The result holds accuracy and the task's other metrics (means in [0, 1]), `no_answer` (share without an answer), and
    `thoughts` and `tokens` per answer. Prompts are encoded once.
    """
    task = load_task(task)
    rows = load_data(task, examples, limit, seed=seed, smoke=smoke)
    if shots is None:
        shots = task.few_shot.draw(task.data, seed=seed, smoke=smoke)
    metrics = [name for name in task.metrics if "@" not in name]  # one sample a question
    prompts: dict[FormatConfig, list[Request]] = {}

    def requests_in(used: FormatConfig) -> Sequence[Request]:
        if used not in prompts:
            prompter = Prompter(tokenizer, used, task.few_shot, shots)
            prompts[used] = [Request(index, 0, prompter.ids(example)) for index, example in enumerate(rows)]
        return prompts[used]

    def score(
        model: Any, thoughts: Any = None, mix_ratio: float | None = None, control: str = "none"
    ) -> dict[str, float]:
        decoding = Decoding(max_new_tokens or task.max_new_tokens, thoughts, mix_ratio, control, None, seed)
        form = format or task.format_for(model)
        generator = Generator(model, tokenizer, decoding, batch_size, task.stops(form))
        ends = thought_ends_of(model)
        totals = dict.fromkeys((*metrics, "no_answer", "thoughts", "tokens"), 0.0)
        with evaluating(model):
            for batch in generator.run(requests_in(form)):
                for request, completion in batch:
                    judgement = judge(generator.text(completion.ids), rows[request.index], task, ends)
                    totals["accuracy"] += judgement.verdict.correct
                    totals["no_answer"] += judgement.verdict.extraction.answer is None
                    totals["thoughts"] += completion.thoughts
                    totals["tokens"] += len(completion.ids)
                    for name in metrics:
                        if name != "accuracy":
                            totals[name] += judgement.scores.get(name, 0.0)
        return {name: value / len(rows) for name, value in totals.items()}

    return score
