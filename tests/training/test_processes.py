"""Two processes (DDP, gloo) train what one trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentthought.config import write_yaml
from latentthought.training.monitor import CLOCKED
from latentthought.training.progress import Silent
from latentthought.training.run import train

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "how"),
    [
        pytest.param("rms", OWN, marks=pytest.mark.full),
        ("mlp", OWN),
        pytest.param("rms", TAUGHT, marks=pytest.mark.full),
        ("rms", STATES_ALONE),
        ("mlp", SELF_TAUGHT),
    ],
    ids=["rms", "mlp", "taught", "states-alone", "self-taught"],
)
def test_two_processes_equal_one(make_recipe, tmp_path: Path, scale: str, how: dict) -> None:
    """The projector of `mlp` has no gradient in the text stage, which DDP has to be told."""
    recipe = make_recipe(
        **how,
        model={"scratch": {"architecture": "llama", "layers": 2}, "thought": {"scale": scale}},  # no dropout
        curriculum={"each": {"steps": 3}},
        training={"optimizer": "sgd", "learning_rate": 0.1, "log_every": 1},
        engine={"micro_batch_size": 2},
    )
    train(recipe, tmp_path / "one", progress=Silent())
    write_yaml(tmp_path / "r.yaml", recipe.dump())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [
            *command,
            "-m",
            "latentthought",
            "train",
            str(tmp_path / "r.yaml"),
            "--output",
            str(tmp_path / "two"),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two"))
    beside = [tmp_path / run / "companions.safetensors" for run in ("one", "two")]
    if beside[0].is_file():
        one, two = {**one, **load_file(beside[0])}, {**two, **load_file(beside[1])}
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], atol=2e-6), name
    lines = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("one", "two")]
    for mine, theirs in zip(*lines, strict=True):
        left, right = json.loads(mine), json.loads(theirs)
        assert left.keys() == right.keys()
        for key in left.keys() - CLOCKED:
            assert left[key] == pytest.approx(right[key], abs=1e-5), key
