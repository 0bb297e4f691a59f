"""What is dealt out while it is read, student and teacher, learns and says what it does when it stands whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from latentthought.config import merge
from latentthought.distillation import forecast
from latentthought.distillation.teacher import Teacher, TeacherConfig
from latentthought.errors import ConfigError, DamagedFileError, UnsupportedError
from latentthought.model.loading import load_model
from latentthought.model.sharding import whole_shape
from latentthought.model.spreading import frozen_settings, spread_loading
from latentthought.recipe import Recipe
from latentthought.training.preparation import prepare
from latentthought.training.progress import Silent
from latentthought.training.run import train
from latentthought.training.zero import zero_process, zero_settings
from tests.training.combinations import Combination, trained
from tests.training.ranks import Job, run_on, uneven_lengths
from tests.training.test_strategies import LORA, TAUGHT, assert_same_run
from tests.training.test_strategies import tiny as tiny  # a fixture

pytest.importorskip("deepspeed")

ZERO3 = {"engine": {"strategy": "zero3"}}
SHARDED = {"teacher": {"sharded": True}}


@pytest.fixture
def taught(tiny: Callable[..., Recipe], tmp_path: Path) -> dict[str, Any]:
    """A student read from a folder, with a token more than that has, and a teacher from another one."""
    sizes = {"model": {"scratch": {"layers": 3, "width": 32, "tied": False}}, "seed": 7}
    for name, changes in {"teacher": sizes, "base": {"seed": 8}}.items():
        made = prepare(tiny(changes))
        made.model.save_pretrained(tmp_path / name)
        made.tokenizer.save_pretrained(tmp_path / name)
    return {
        "model": {"scratch": None, "base": str(tmp_path / "base"), "thought": {"end_token": "<x>"}},
        "teacher": {"model": str(tmp_path / "teacher")},
        "objective": TAUGHT["objective"],
        # the rows of a step differ in length, and some have nothing to compare
        "training": {"batch_size": 4, "group_by_length": False, "max_steps": 6},
        "curriculum": {"each": {"steps": 2}},
        "evaluation": {"every": 3},
        "engine": {"micro_batch_size": 1},
    }


def scores(run: Path) -> list[tuple[float, float]]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(row["validation_words"], row["validation_lengths"]) for row in rows if "validation_words" in row]


@pytest.mark.slow
def test_two_processes_that_hold_shares_train_what_one_trains(
    tiny: Callable[..., Recipe],
    taught: dict[str, Any],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """The head of either model in chunks of two positions, of which the processes have different numbers; each process
    accumulates; validation rows think and write for different lengths; a run goes on from a checkpoint."""
    for name, changes in {"full": {}, "lora": LORA}.items():
        train(tiny(taught, changes), tmp_path / f"one-{name}", scorer=uneven_lengths, progress=Silent())
    spread = merge(merge(taught, SHARDED), ZERO3)
    recomputed = {"engine": {"gradient_checkpointing": True}}
    options = {"chunk": 2 * 24 * 4, "scored": True}
    jobs: list[Job] = [
        (tiny(spread, LORA), tmp_path / "lora", options),
        (tiny(spread, recomputed), tmp_path / "full", {**options, "stop": 3}),
        (tiny(spread, recomputed), tmp_path / "full", options),
    ]
    run_on(2, jobs, tmp_path / "jobs")
    for name in ("full", "lora"):
        assert_same_run(tmp_path / name, tmp_path / f"one-{name}")
        assert scores(tmp_path / name) == scores(tmp_path / f"one-{name}")
        trained(record_property, [Combination("zero3", "fp32", name, "sharded", 2)])
    assert max(lengths for _, lengths in scores(tmp_path / "full")) > 1


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_weights_are_dealt_out_as_they_are_read(
    tiny: Callable[..., Recipe], taught: dict[str, Any], dtype: Any
) -> None:
    recipe = tiny(taught, SHARDED, {"teacher": {"dtype": dtype}}, ZERO3)
    assert recipe.teacher is not None and recipe.teacher.model is not None
    whole = Teacher.load(recipe.teacher.replace(sharded=False), device="cpu")
    expected = states(whole, [0, 2, -1])
    with zero_process(recipe):
        settings = zero_settings(recipe, 1)
        settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        with spread_loading(frozen_settings(settings, whole.dtype)):
            read = load_model(recipe.teacher.model, "cpu", whole.dtype).model
        assert_spread(read)  # before there is an engine
        teacher = Teacher.load(recipe.teacher, device="cpu", spread=settings)
        assert_spread(teacher.model)
        assert teacher.dtype == whole.dtype
        for layer, tensor in states(teacher, [0, 2, -1]).items():
            assert torch.equal(tensor, expected[layer]), layer
        assert torch.equal(teacher.head(expected[-1]), whole.head(expected[-1]))
        assert_spread(teacher.model)  # what was brought together for a call is let go of


def test_a_student_is_dealt_out_as_it_is_read(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    """With a token more than its base has, whose rows are made anew and left to the engine, and the base's learnt scale."""
    made = prepare(tiny({"model": {"thought": {"scale": "mlp"}}}))
    made.model.save_pretrained(tmp_path / "base")
    made.tokenizer.save_pretrained(tmp_path / "base")
    thought = {"end_token": "<x>", "scale": "mlp"}
    recipe = tiny({"model": {"scratch": None, "base": str(tmp_path / "base"), "thought": thought}}, ZERO3)
    whole = prepare(recipe)
    with zero_process(recipe):
        spread = prepare(recipe, spread=zero_settings(recipe, 1))
    assert_spread(spread.model.base, but=("model.embed_tokens.weight",))
    assert spread.summary() == whole.summary()
    tables = [prepared.model.get_input_embeddings().weight for prepared in (spread, whole)]
    assert torch.equal(*tables)
    expected = whole.model.scale.state_dict()
    for name, tensor in spread.model.scale.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"lora": {"r": 2, "dora": True}}},
        {"objective": [{"term": "ce"}, {"term": "spell"}]},
    ],
)
def test_weights_that_are_measured_or_copied_are_read_whole(
    tiny: Callable[..., Recipe], taught: dict[str, Any], changes: dict[str, Any]
) -> None:
    pytest.importorskip("peft")
    recipe = tiny({"model": taught["model"]}, changes, ZERO3)
    with zero_process(recipe):
        spread = prepare(recipe, spread=zero_settings(recipe, 1))
    assert all(parameter.numel() for parameter in spread.model.parameters())


def test_weights_that_do_not_fit_are_refused_where_they_are_dealt_out_too(
    tiny: Callable[..., Recipe], taught: dict[str, Any]
) -> None:
    folder = Path(taught["model"]["base"])
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] *= 2
    (folder / "config.json").write_text(json.dumps(config))
    recipe = tiny({"model": taught["model"]}, ZERO3)
    message = r"base: the weights do not fit the model: .*mlp.*shape"
    with zero_process(recipe), pytest.raises(DamagedFileError, match=message):
        prepare(recipe, spread=zero_settings(recipe, 1))


def states(teacher: Teacher, layers: list[int]) -> Mapping[int, torch.Tensor]:
    ids = torch.tensor([[3, 5, 7, 9]])
    return teacher.states({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, layers)


def assert_spread(model: torch.nn.Module, but: Collection[str] = ()) -> None:
    for name, parameter in model.named_parameters():
        if name not in but:
            assert hasattr(parameter, "ds_id"), name
            assert parameter.numel() == 0 < whole_shape(parameter).numel(), name


@pytest.mark.parametrize("strategy", ["ddp", "zero2"])
def test_a_teacher_is_sharded_by_zero3_alone(
    tiny: Callable[..., Recipe], tmp_path: Path, strategy: str
) -> None:
    recipe = tiny(TAUGHT, SHARDED, {"engine": {"strategy": strategy}})
    message = f"teacher.sharded: .*engine.strategy is {strategy}; allowed for it: false"
    with pytest.raises(ConfigError, match=message):
        train(recipe, tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "self"}, "sharded: not with model: self"),
        ({"model": "x", "cache": {"path": "states"}}, "sharded: a run that reads a cache loads no teacher"),
        (
            {"model": "x", "device": "cpu"},
            "sharded: every process holds a share on its own device, not on cpu",
        ),
    ],
)
def test_what_a_sharded_teacher_does_not_go_with(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TeacherConfig.parse({**changes, "sharded": True})


def test_fp16_is_not_dealt_out_on_a_cpu(tiny: Callable[..., Recipe]) -> None:
    recipe = tiny(TAUGHT, SHARDED, {"teacher": {"dtype": "fp16"}}, ZERO3)
    with pytest.raises(
        UnsupportedError, match=r"float16 are not dealt out on a CPU; allowed there: fp32, bf16"
    ):
        prepare(recipe, spread=zero_settings(recipe, 1))


def test_an_adapter_is_no_teacher_to_deal_out(
    tiny: Callable[..., Recipe], taught: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    learning = tiny({"model": taught["model"]}, LORA, {"training": {"max_steps": 1}})
    train(learning, tmp_path / "run", progress=Silent())
    settings = TeacherConfig(model=str(tmp_path / "run" / "adapter"), sharded=True)
    with pytest.raises(ConfigError, match=r"teacher.sharded: .* is an adapter.*export .* --to hf"):
        Teacher.load(settings, device="cpu", spread=zero_settings(tiny(ZERO3), 1))


def test_a_share_of_a_teacher_has_to_fit(
    tiny: Callable[..., Recipe], taught: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Path(taught["teacher"]["model"])
    size = sum(p.numel() for p in load_model(str(where), "cpu").model.parameters()) * 4
    monkeypatch.setattr(forecast, "free_memory", lambda place: size // 2)
    forecast.check_memory(where, "auto", "cpu", shares=3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"in each of 2 processes, and cpu has .* free"):
        Teacher.load(
            TeacherConfig(model=str(where), sharded=True), device="cpu", spread=zero_settings(tiny(ZERO3), 1)
        )
    with pytest.raises(ConfigError, match=r"float32, and cpu has .* free;.*or deal it out .*teacher.sharded"):
        forecast.check_memory(where, "auto", "cpu")
