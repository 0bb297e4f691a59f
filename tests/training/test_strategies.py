"""Every strategy trains what one process trains, whatever is spread over the processes, and its checkpoints go on anywhere."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file

from latentthought.cli.states import extract
from latentthought.config import merge, write_yaml
from latentthought.errors import ConfigError
from latentthought.processes import ALONE
from latentthought.recipe import Recipe, load_recipe
from latentthought.training.engine import EngineConfig
from latentthought.training.progress import Silent
from latentthought.training.run import train
from latentthought.training.zero import zero_settings
from tests.training.combinations import TABLE, Combination, trained
from tests.training.ranks import Job, run_on

pytest.importorskip("deepspeed")

STRATEGIES = ("ddp", "fsdp2", "zero3", "zero2", "zero1")
TEACHER = {"scratch": {"architecture": "llama", "layers": 3, "width": 24, "heads": 2}}
SPREADING = ("fsdp2", "zero3")
STATES = {"term": "hidden", "target": "teacher", "alignment": "step_ends", "projector": {"kind": "linear"}}
TAUGHT = {"teacher": TEACHER, "objective": [{"term": "ce"}, {"term": "kl", "weight": 0.3}, STATES]}
MIXED = {"method": "soft_mix", "mix": 0.5, "max_latent_steps": None, "replay": 0.0}
LORA = {"model": {"lora": {"r": 4, "alpha": 8}}}
STUDENTS: dict[str, dict[str, Any]] = {"full": {}, "lora": LORA}
TEACHERS = ("alone", "live", "cached")


@pytest.fixture
def tiny(make_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Ten steps through all stages, without dropout, whose masks differ from rank to rank; rows of one and of two thoughts."""

    def made(*changes: dict[str, Any]) -> Recipe:
        values: dict[str, Any] = {
            "model": {"scratch": {"architecture": "llama", "layers": 2}, "thought": {"scale": "rms"}},
            "curriculum": {"each": {"steps": 4}, "reset_optimizer": False},
            "training": {"max_steps": 10, "log_every": 1, "save_every": 6, "weight_decay": 0.1},
            "engine": {"micro_batch_size": 2},
        }
        for change in changes:
            values = merge(values, change)
        return make_recipe(**values)

    return made


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    found = load_file(run / "model" / "model.safetensors")
    if (run / "companions.safetensors").is_file():
        found.update(load_file(run / "companions.safetensors"))
    return found


def assert_same_run(run: Path, reference: Path, tolerance: float = 1e-5) -> None:
    """The same losses, final weights and projectors, up to the order of sums."""
    assert losses(run) == pytest.approx(losses(reference), abs=tolerance)
    mine, theirs = weights(run), weights(reference)
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        # Adam divides by the size of a gradient, however small, so single weights may differ by more than the loss does
        assert torch.allclose(mine[name], tensor, atol=1e-4), (run.name, name)


@pytest.mark.slow
def test_strategies_train_what_one_process_trains(
    tiny: Callable[..., Recipe], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Pairs of strategy, student and teacher; `test_matrix` has them all."""
    chosen = [
        ("ddp", "lora", "live"),
        ("fsdp2", "full", "live"),
        ("fsdp2", "lora", "cached"),
        ("zero1", "full", "cached"),
        ("zero2", "lora", "alone"),
        ("zero2", "full", "live"),
        ("zero3", "full", "alone"),
        ("zero3", "lora", "live"),
        ("zero3", "full", "cached"),
    ]
    check_matrix(tiny, tmp_path, chosen)
    trained(record_property, [Combination(s, "fp32", student, teacher, 2) for s, student, teacher in chosen])


def test_a_process_may_train_by_one_engine_after_another(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    """transformers and accelerate keep an engine for the whole process, DeepSpeed a product of its own; we do not."""
    linear = F.linear
    for number, strategy in enumerate(("ddp", "zero3", "fsdp2", "ddp", "zero2")):
        surroundings = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
        train(tiny({"engine": {"strategy": strategy}}), tmp_path / str(number), progress=Silent())
        after = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
        assert strategy == "ddp" or after == surroundings
        assert F.linear is linear
        assert_same_run(tmp_path / str(number), tmp_path / "0")
        if strategy == "zero3":  # as an evaluation on several processes does when it leaves
            torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_every_rank_makes_every_call(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    """Heads in chunks of two positions, of which the ranks have different numbers, down to none; new token rows of a base; every
    pass recomputed. A rank that leaves a call out would let the other wait for ever, and so would one whose disk is full."""
    train(tiny({"training": {"max_steps": 1}}), tmp_path / "base", progress=Silent())
    student = {"model": {"scratch": None, "base": str(tmp_path / "base"), "thought": {"end_token": "<x>"}}}
    single = {"training": {"batch_size": 2, "group_by_length": False}, "engine": {"micro_batch_size": 1}}
    recipe = tiny(TAUGHT, LORA, student, single, {"engine": {"gradient_checkpointing": True}})
    train(recipe, tmp_path / "one", progress=Silent())
    jobs: list[Job] = []
    for strategy in SPREADING:
        engine = {"engine": {"strategy": strategy, "gradient_checkpointing": True}}
        spread = tiny(TAUGHT, LORA, student, single, engine)
        jobs.append((spread, tmp_path / strategy, {"chunk": 2 * 24 * 4}))
        full = tiny({"engine": {"strategy": strategy}})
        jobs.append((full, tmp_path / f"{strategy}-full", {"full": True}))
    said = run_on(2, jobs, tmp_path / "jobs")
    for strategy in SPREADING:
        assert_same_run(tmp_path / strategy, tmp_path / "one")
        failed = tmp_path / f"{strategy}-full"
        assert re.search(rf"rank 0: cannot save {failed}.*No space left on device", said)
        assert not list(failed.glob("checkpoint-*"))
    assert said.count("rank 1: another process failed") == len(SPREADING)


@pytest.mark.full
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_matrix(
    tiny: Callable[..., Recipe],
    tmp_path: Path,
    precision: str,
    record_property: Callable[[str, object], None],
) -> None:
    every = [(s, student, teacher) for s in STRATEGIES for student in STUDENTS for teacher in TEACHERS]
    check_matrix(tiny, tmp_path, every, precision)
    trained(
        record_property, [Combination(s, precision, student, teacher, 2) for s, student, teacher in every]
    )


def check_matrix(
    tiny: Callable[..., Recipe],
    folder: Path,
    chosen: list[tuple[str, str, str]],
    precision: str = "fp32",
) -> None:
    states = {**TEACHER, "cache": {"path": str(folder / "states"), "codec": "fp32"}}
    teachers: dict[str, dict[str, Any]] = {
        "alone": {},
        "live": TAUGHT,
        "cached": {"teacher": states, "objective": [{"term": "ce"}, STATES]},
    }
    extract(tiny(teachers["cached"]), folder / "states", ALONE, shown=False)
    jobs: list[Job] = []
    for strategy, student, teacher in chosen:
        parts = (STUDENTS[student], teachers[teacher], {"engine": {"precision": precision}})
        reference = folder / f"one-{student}-{teacher}"
        if not reference.exists():
            train(tiny(*parts), reference, progress=Silent())
        recipe = tiny(*parts, {"engine": {"strategy": strategy}})
        jobs.append((recipe, folder / f"{strategy}-{student}-{teacher}", {}))
    run_on(2, jobs, folder / "jobs")
    for strategy, student, teacher in chosen:
        run, reference = folder / f"{strategy}-{student}-{teacher}", folder / f"one-{student}-{teacher}"
        if precision == "fp32":
            assert_same_run(run, reference)
        else:  # products of other shapes are rounded otherwise
            assert losses(run) == pytest.approx(losses(reference), abs=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategies",
    [("ddp", "zero3", "fsdp2"), pytest.param(STRATEGIES, marks=pytest.mark.full)],
    ids=["three", "all"],
)
def test_a_run_goes_on_under_other_engines(
    tiny: Callable[..., Recipe], tmp_path: Path, strategies: tuple[str, ...]
) -> None:
    """Stopped at step 5 on two processes, finished on one by the next strategy, and the other way round: as if never stopped."""
    train(tiny(TAUGHT), tmp_path / "whole", progress=Silent())
    names = {name: tiny(TAUGHT, {"engine": {"strategy": name}}) for name in strategies}
    after = dict(zip(strategies, (*strategies[1:], strategies[0]), strict=True))
    before = {name: first for first, name in after.items()}

    def jobs(first: int, goes_on: dict[str, str] | None = None, **options: Any) -> list[Job]:
        """Runs that begin on `first` processes, or go on there."""
        by = goes_on or dict.fromkeys(names)
        return [(names[by[name] or name], tmp_path / f"{first}-{name}", options) for name in names]

    run_on(2, jobs(2, stop=5), tmp_path / "begun-2")
    run_on(1, [*jobs(1, stop=5), *jobs(2, after)], tmp_path / "begun-1")
    for name in names:
        assert len(losses(tmp_path / f"1-{name}")) == 5
        checkpoint = tmp_path / f"1-{name}" / "checkpoint-5"
        assert not [path for path in checkpoint.iterdir() if path.suffix in (".pt", ".bin", ".pkl")]
        with safe_open(checkpoint / "optimizer.safetensors", framework="pt") as file:
            assert any(key.endswith(":exp_avg_sq") for key in file.keys())  # noqa: SIM118
    run_on(2, jobs(1, before), tmp_path / "ended-2")
    for first in (1, 2):
        for name in names:
            assert_same_run(tmp_path / f"{first}-{name}", tmp_path / "whole")


def test_settings_follow_from_the_recipe(tiny: Callable[..., Recipe]) -> None:
    recipe = tiny({"engine": {"strategy": "zero3", "offload": "all", "precision": "bf16"}})
    made = zero_settings(recipe, 2)
    assert made["train_batch_size"] == 8
    assert made["train_micro_batch_size_per_gpu"] * made["gradient_accumulation_steps"] * 2 == 8
    assert made["gradient_clipping"] == recipe.training.max_grad_norm
    assert made["zero_optimization"]["stage"] == 3
    assert made["zero_optimization"]["offload_param"] == made["zero_optimization"]["offload_optimizer"]
    # gradients keep their float32 on the way between the processes
    autocast = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    assert made["torch_autocast"] == autocast
    assert "bf16" not in made  # which would turn the weights themselves to bf16
    assert "torch_autocast" not in zero_settings(tiny({"engine": "zero2"}), 1)


def test_the_engine_may_change_on_a_resume_but_not_its_precision(tiny: Callable[..., Recipe]) -> None:
    here, there = (
        tiny(),
        tiny({"engine": {"strategy": "zero2", "micro_batch_size": 1, "offload": "optimizer"}}),
    )
    assert there.differences(here) == []
    assert tiny({"engine": {"precision": "bf16"}}).differences(here) == [
        "engine.precision ('fp32' -> 'bf16')"
    ]


def test_the_strategy_alone_stands_for_an_engine(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    assert tiny({"engine": "zero1"}).engine == EngineConfig(strategy="zero1")
    write_yaml(tmp_path / "r.yaml", tiny().dump())
    read = load_recipe(tmp_path / "r.yaml", ["engine=zero3"])
    assert read.engine == tiny().engine.replace(strategy="zero3")  # the other settings stay
    (tmp_path / "child.yaml").write_text("extends: r.yaml\nengine: zero2\n")
    assert load_recipe(tmp_path / "child.yaml").engine == tiny().engine.replace(strategy="zero2")
    with pytest.raises(
        ConfigError,
        match=r"engine: .*a strategy \(ddp, fsdp2, zero1, zero2, zero3\) or a mapping.*not \['zero2'\]",
    ):
        load_recipe(tmp_path / "r.yaml", ["engine=[zero2]"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": {"strategy": "zero4"}}, r"engine.strategy: .*'zero4'.*zero3"),
        (
            {"engine": {"offload": "optimizer"}},
            r"offload optimizer goes with zero1, zero2 and zero3, not with ddp",
        ),
        ({"engine": {"strategy": "zero2", "offload": "all"}}, r"allowed for it: none, optimizer"),
        (
            {"engine": {"strategy": "fsdp2", "offload": "optimizer"}},
            r"offload optimizer: .*allowed for it: none, all",
        ),
        ({"engine": {"strategy": "zero1", "precision": "fp16"}}, r"allowed for zero1: fp32, bf16"),
        ({"engine": {"strategy": "fsdp2", "precision": "fp16"}}, r"allowed for fsdp2: fp32, bf16"),
    ],
)
def test_engines_that_do_not_hold(tiny: Callable[..., Recipe], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(changes)


@pytest.mark.parametrize("strategy", SPREADING)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"optimizer": "adafactor"}},
            "adafactor needs whole tensors.*allowed for it: adamw, sgd",
        ),
        ({"training": {"gradient_norms": 5}}, "gradient_norms: .*allowed for {}: 0"),
        ({**TAUGHT, "teacher": {**TEACHER, "on_policy": {}}}, "teacher.on_policy: .*take zero2 or ddp"),
        (
            {"curriculum": {**MIXED, "feedback": "sequential"}},
            "feedback is sequential, .*allowed for it: single_pass, jacobi; or take zero2",
        ),
        (
            {"model": {"lora": {"r": 2, "quantize": "4bit"}}},
            "4bit weights cannot be spread by {}; take zero2 or ddp",
        ),
    ],
)
def test_what_cannot_be_spread_is_said_before_anything_is_made(
    tiny: Callable[..., Recipe], tmp_path: Path, strategy: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message.format(strategy)):
        train(tiny(changes, {"engine": {"strategy": strategy}}), tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_bf16_is_autocast_over_float32_weights_under_every_engine(
    tiny: Callable[..., Recipe], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """In the stage of words the same numbers are rounded, so the losses are the same; where several passes share a weight, what
    they give it is summed up before the rounding by one engine and after it by another."""
    for strategy in ("ddp", "fsdp2", "zero2", "zero3"):
        recipe = tiny({"engine": {"strategy": strategy, "precision": "bf16"}})
        train(recipe, tmp_path / strategy, progress=Silent())
        assert losses(tmp_path / strategy)[:5] == pytest.approx(losses(tmp_path / "ddp")[:5], abs=1e-5)
        assert losses(tmp_path / strategy) == pytest.approx(losses(tmp_path / "ddp"), abs=2e-3)
        assert {tensor.dtype for tensor in weights(tmp_path / strategy).values()} == {torch.float32}
        trained(record_property, [Combination(strategy, "bf16", "full", "alone", 1)])


def test_the_table_of_combinations_is_that_of_the_matrix() -> None:
    """`--full --write-combinations` writes it; a strategy, student or teacher that is new here must be there too."""
    rows = [line.split("|")[1:-1] for line in TABLE.read_text("utf-8").splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in rows[0]]
    for strategy in STRATEGIES:
        (row,) = [row for row in rows if [cell.strip() for cell in row[:2]] == ["fp32", strategy]]
        cells = dict(zip(columns, (cell.strip() for cell in row), strict=True))
        assert all(cells[f"{student}, {teacher}"] == "2" for student in STUDENTS for teacher in TEACHERS)
