"""The scorer that training calls: the same number as `evaluate`, and no trace left."""

from __future__ import annotations

import random
from typing import Any

import torch

from latentthought.data.example import ExampleSet
from latentthought.evaluation import TaskConfig, evaluate, validation_scorer


def test_same_as_evaluate(scripted: Any, task: TaskConfig, tokenizer: Any, rows: ExampleSet) -> None:
    score = validation_scorer(task, tokenizer, examples=rows, batch_size=4)
    assert score(scripted) == {"accuracy": 0.7, "no_answer": 0.2, "thoughts": 0.0, "tokens": evaluate(
        scripted, task, tokenizer=tokenizer, data=rows, progress=False).costs.tokens}  # fmt: skip


def test_examples_and_stops_as_evaluate(
    scripted: Any, task: TaskConfig, tokenizer: Any, rows: ExampleSet
) -> None:
    """The task's few-shot prompt is what the model sees, and a completion ends where the task says."""
    shown = task.replace(
        few_shot={"examples": [{"question": "1 + 1 - 0", "answer": "2"}], "separator": " - - "},
        default_format={"prompt": "{question} ="},
    )
    answers = dict(scripted.answers)
    scripted.answers = {
        f"1 + 1 - 0 =### 2 - - {question} =": f"{answer} - - ### 1" for question, answer in answers.items()
    }
    scripted.answers = {
        tokenizer.decode(tokenizer(prompt)["input_ids"], skip_special_tokens=True).strip(): answer
        for prompt, answer in scripted.answers.items()
    }
    found = validation_scorer(shown, tokenizer, examples=rows)(scripted)
    assert all("stopping_criteria" in call for call in scripted.calls)
    whole = evaluate(scripted, shown, tokenizer=tokenizer, data=rows, progress=False)
    assert (found["accuracy"], found["no_answer"]) == (0.7, whole.counts.no_answer / 10)
    assert whole.accuracy.value == 0.7


def test_leaves_no_trace(latent_model: Any, task: TaskConfig, tokenizer: Any, rows: ExampleSet) -> None:
    score = validation_scorer(task, tokenizer, examples=rows, limit=6)
    latent_model.train()
    latent_model.base.eval()
    modes = [module.training for module in latent_model.modules()]
    state, python_state = torch.get_rng_state(), random.getstate()
    first = score(latent_model)
    assert first["thoughts"] == 2
    assert score(latent_model) == first
    assert score(latent_model, thoughts=0)["thoughts"] == 0
    assert torch.equal(state, torch.get_rng_state())
    assert random.getstate() == python_state
    assert [module.training for module in latent_model.modules()] == modes
    assert all(parameter.grad is None for parameter in latent_model.parameters())
