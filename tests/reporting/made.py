"""Made-up run folders: metrics, a recipe, and results of which every answer is known."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from latentthought.config import write_yaml
from latentthought.evaluation.results import Results
from latentthought.recipe import load_recipe
from tests.judged import answered, judged, result, saved

METRICS = [
    {
        "step": 10 * (place + 1),
        "stage": stage,
        "loss": 2.0 / (place + 1),
        "loss_ce": 1.5 / (place + 1),
        "loss_hidden": 10.0**-place,
        "loss_hidden_mse": 10.0**-place,
        "loss_hidden_cosine": 0.5**place,
        "loss_ce_weighted": 1.5 / (place + 1),
        "loss_hidden_weighted": 0.1 * 10.0**-place,
        "mix_ratio": 0.5 * place,
        "learning_rate": 1e-3,
        "train_accuracy": 0.3 * place,
        **(
            {"thought_rms_ratio": 1.0 + place, "thought_cosine": 0.1 * place, "thought_gap": 1e-6}
            if place
            else {}
        ),
    }
    for place, stage in enumerate(("text", "transition", "mixed"))
]
SETTINGS = {"thoughts": None, "mix_ratio": None, "samples": 1, "temperature": None, "weights": "w"}
GRADING = {
    "engine": "latentthought",
    "extraction": "flexible",
    "policy": {"strict": False, "precision": "written"},
}


def metrics(folder: Path, rows: Sequence[Mapping[str, Any]] = METRICS) -> Path:
    """Write the metrics of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recipe(folder: Path, name: str = "hops/feature", *overrides: str) -> Path:
    """Write a resolved recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(folder / "recipe.yaml", load_recipe(name, overrides).dump())
    return folder


def results(folder: Path, right: Sequence[int], total: int = 20, **fields: Any) -> Path:
    """Write results and samples: which of `total` questions are right. fields: of `Results`, and the samples' costs."""
    costs = {name: fields.pop(name) for name in ("thoughts", "tokens", "milliseconds") if name in fields}
    samples = answered(
        right, total, control=fields.get("control", "none"), task=fields.get("task", "sums"), **costs
    )
    settings = {**SETTINGS, **fields.pop("settings", {})}
    data = fields.pop("data", {"fingerprint": "f" * 64})
    made = result(samples, settings=settings, grading=GRADING, data=data, **fields)
    saved(folder, samples, made)
    return folder


def grouped_results(folder: Path, groups: Mapping[str, Sequence[bool]], **fields: Any) -> Path:
    """Write results by subject: for each the questions that are right."""
    samples = []
    for subject, answers in groups.items():
        for place, right in enumerate(answers):
            answer = "7" if right else "8"
            samples += judged(f"{subject}-{place}", "7", answer, groups={"subject": subject})
    saved(folder, samples, result(samples, settings=SETTINGS, grading=GRADING, **fields))
    return folder


def weights(folder: Path, *shapes: Sequence[int]) -> int:
    """Write a model's weights of these shapes, and a scalar buffer; the number of parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"w{place}": torch.zeros(*shape) for place, shape in enumerate(shapes)}
    save_file({**tensors, "scale.target": torch.ones(())}, folder / "model.safetensors")
    return sum(tensor.numel() for tensor in tensors.values())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a figure's table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def loaded(folder: Path, task: str = "sums", control: str = "none") -> Results:
    """The results that a run folder holds."""
    return Results.load(folder / "results" / task / control / "results.json")
