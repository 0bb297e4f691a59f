"""Two processes (DDP, gloo) train what one trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentthought.training.monitor import CLOCKED
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.training.ranks import Job, run_on

OWN = {"objective": [{"term": "ce"}, {"term": "hidden", "weight": 0.3}]}
TAUGHT = {
    "teacher": {"scratch": {"architecture": "llama", "layers": 3, "width": 24, "heads": 2}},
    "objective": [
        {"term": "ce"},
        {"term": "kl", "weight": 0.3},
        {"term": "hidden", "target": "teacher", "alignment": "step_ends", "projector": {"kind": "linear"}},
    ],
}
STATES_ALONE = {  # neither the head nor the last block has a part in any step
    "teacher": TAUGHT["teacher"],
    "objective": [
        {
            "term": "hidden",
            "target": "teacher",
            "alignment": "step_ends",
            "layers": [[1, 1]],
            "projector": {"kind": "linear"},
        }
    ],
}
SELF_TAUGHT = {
    "teacher": {"model": "self"},
    "objective": [
        {"term": "ce"},
        {"term": "ce", "of": "chain", "name": "words"},
        {"term": "hidden", "target": "teacher", "alignment": "answer", "layers": "all"},
        {"term": "spell", "weight": 0.5},
    ],
}


# a scale and what is taught; the projector of `mlp` has no gradient in the text stage, which DDP has to be told
HOW = {
    "own": ("rms", OWN),
    "mlp": ("mlp", OWN),
    "taught": ("rms", TAUGHT),
    "states-alone": ("rms", STATES_ALONE),
    "self-taught": ("mlp", SELF_TAUGHT),
}


@pytest.mark.slow
def test_two_processes_equal_one(make_recipe, tmp_path: Path) -> None:
    jobs: list[Job] = []
    for name, (scale, how) in HOW.items():
        recipe = make_recipe(
            **how,
            model={
                "scratch": {"architecture": "llama", "layers": 2},
                "thought": {"scale": scale},
            },  # no dropout
            curriculum={"each": {"steps": 3}},
            training={"optimizer": "sgd", "learning_rate": 0.1, "log_every": 1},
            engine={"micro_batch_size": 2},
        )
        train(recipe, tmp_path / f"{name}-one", progress=Silent())
        jobs.append((recipe, tmp_path / f"{name}-two", {}))
    run_on(2, jobs, tmp_path / "jobs")
    for name in HOW:
        assert_same_run(tmp_path / f"{name}-one", tmp_path / f"{name}-two", name)


def assert_same_run(one: Path, two: Path, name: str) -> None:
    left, right = map(tensors, (one, two))
    assert left.keys() == right.keys(), name
    for key, tensor in left.items():
        assert torch.allclose(tensor, right[key], atol=2e-6), (name, key)
    for mine, theirs in zip(rows(one), rows(two), strict=True):
        assert mine.keys() == theirs.keys(), name
        for key in mine.keys() - CLOCKED:
            assert mine[key] == pytest.approx(theirs[key], abs=1e-5), (name, key)


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """The weights and companions of a run."""
    beside = run / "companions.safetensors"
    return load_file(run / "model" / "model.safetensors") | (load_file(beside) if beside.is_file() else {})


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
