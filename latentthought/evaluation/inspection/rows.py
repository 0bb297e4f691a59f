"""The rows of a task, answered and thought about, and for every thought the rows that can lend theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentthought.data.encoding import FormatConfig
from latentthought.data.example import Example, ExampleSet
from latentthought.evaluation.decoding import Decoding
from latentthought.evaluation.few_shot import Prompter
from latentthought.evaluation.generation import Generator, Request
from latentthought.evaluation.inspection.probing import result_of
from latentthought.evaluation.judging import judge
from latentthought.evaluation.models import thought_ends_of
from latentthought.evaluation.progress import Progress
from latentthought.evaluation.provenance import recipe_of
from latentthought.evaluation.tasks import TaskConfig
from latentthought.model.inputs import left_padded
from latentthought.model.interventions import Thinking, think_through
from latentthought.model.think import Prompt

# the two donors of a thought: of another result, and of the same
SWAPPED, ALIKE = 0, 1


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """A row with the model's own greedy answer (ids, with the end token). number: place in the task; results: of its steps."""

    number: int
    example: Example
    prompt: Sequence[int]
    answer: list[int]
    right: bool
    results: tuple[str, ...]


@dataclass(frozen=True)
class Asking:
    """A model asked the rows of a task after `thoughts` thoughts, `batch_size` prompts at a time."""

    model: Any
    tokenizer: Any
    task: TaskConfig
    thoughts: int
    batch_size: int
    progress: bool

    @property
    def format(self) -> FormatConfig:
        return self.task.format_for(self.model)

    def bar(self, what: str, total: int) -> Progress:
        return Progress(f"{self.task.name}: {what}", total, self.progress)

    def answered(self, examples: ExampleSet, shots: Sequence[Example]) -> list[AnsweredRow]:
        """The rows that fit into the context, each with its answer, in order."""
        prompter = Prompter(self.tokenizer, self.format, self.task.few_shot, shots)
        requests = [Request(index, 0, prompter.ids(example)) for index, example in enumerate(examples)]
        generator = Generator(
            self.model,
            self.tokenizer,
            Decoding(self.task.max_new_tokens, self.thoughts),
            self.batch_size,
            self.task.stops(self.format),
        )
        ends = thought_ends_of(self.model)
        rows: dict[int, AnsweredRow] = {}
        with self.bar("answers", len(requests)) as bar:
            for batch in generator.run(requests):
                right = 0
                for request, made in batch:
                    if made.problem:
                        continue
                    example = examples[request.index]
                    correct = judge(generator.text(made.ids), example, self.task, ends).verdict.correct
                    results = tuple(map(result_of, example.steps))
                    rows[request.index] = AnsweredRow(
                        request.index, example, request.prompt, made.ids, correct, results
                    )
                    right += correct
                bar.add(len(batch), right)
        return [rows[index] for index in sorted(rows)]

    def batches(self, rows: Sequence[AnsweredRow]) -> Iterator[list[int]]:
        """Places in `rows`, longest prompts first."""
        order = sorted(range(len(rows)), key=lambda place: (-len(rows[place].prompt), place))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def think(self, rows: Sequence[AnsweredRow]) -> Thinking:
        """Rows read and thought about together."""
        ids, mask = (part.to(self.model.device) for part in left_padded([row.prompt for row in rows]))
        return think_through(self.model, Prompt.read(ids, mask), self.thoughts)

    def thought_about(self, rows: Sequence[AnsweredRow]) -> tuple[Tensor, Tensor]:
        """States and inputs of all thoughts, (N, S, D) each, on the CPU."""
        states: list[Tensor] = [torch.empty(0)] * len(rows)
        inputs: list[Tensor] = [torch.empty(0)] * len(rows)
        with self.bar("thoughts", len(rows)) as bar:
            for places in self.batches(rows):
                thinking = self.think([rows[place] for place in places])
                for row, place in enumerate(places):
                    states[place], inputs[place] = thinking.states[row].cpu(), thinking.inputs[row].cpu()
                bar.add(len(places))
        return torch.stack(states), torch.stack(inputs)


def thoughts_per_step(model: Any, thoughts: int, rows: Sequence[AnsweredRow]) -> int | None:
    """Thoughts that stand for one step: by the recipe of the training, else as if they were spread over the longest row's steps;
    None for rows without steps."""
    longest = max(len(row.results) for row in rows)
    if not longest:
        return None
    recipe = recipe_of(str(getattr(model.config, "name_or_path", ""))) or {}
    known = recipe.get("curriculum", {}).get("thoughts_per_step")
    return max(1, thoughts // longest) if known is None else int(known)


def find_donors(rows: Sequence[AnsweredRow], steps: Sequence[int | None]) -> Tensor:
    """(N, 2, S): for every row and thought the place of the next row whose step has another result (`SWAPPED`), and of the next
    one with the same (`ALIKE`); -1 for none.

    steps: the step (0-based) that each thought stands for. Where that is not known, or no row has it, the next row is as good as
    another, and none is alike.
    """
    total = len(rows)
    donors = torch.full((total, 2, len(steps)), -1)
    for thought, step in enumerate(steps):
        results = [None if step is None or step >= len(row.results) else row.results[step] for row in rows]
        if not any(result is not None for result in results):
            donors[:, SWAPPED, thought] = torch.arange(1, total + 1) % total
            continue
        for place, result in enumerate(results):
            if result is not None:
                for which, same in ((SWAPPED, False), (ALIKE, True)):
                    donors[place, which, thought] = _next(rows, results, place, same)
    return donors


def _next(rows: Sequence[AnsweredRow], results: Sequence[str | None], place: int, same: bool) -> int:
    """The place of the next row of another question whose result is the same, or is not; -1 for none."""
    total, own = len(rows), rows[place].example.question
    for offset in range(1, total):
        other = (place + offset) % total
        if (
            results[other] is not None
            and (results[other] == results[place]) == same
            and rows[other].example.question != own
        ):
            return other
    return -1
