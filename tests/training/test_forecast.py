"""The forecast of a run, against real steps, published sizes, torch's own counters and sums made by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig

from latentthought import LatentThoughtForCausalLM, ThoughtConfig, load_recipe
from latentthought.cli import main
from latentthought.errors import ConfigError
from latentthought.model.blueprint import KNOWN, config_of, count_parameters, hollow
from latentthought.model.scratch import ScratchConfig
from latentthought.model.sharding import sharded, supposed_sharded
from latentthought.resources import list_recipes
from latentthought.training.forecast import _on_host, _steady, forecast, step_shape
from latentthought.training.hollow_step import LiveBytes, StepShape, scored_passes, step_memory
from latentthought.training.planned_models import planned_models

SIZES = ScratchConfig(architecture="llama", layers=3, width=64, heads=4, kv_heads=2, mlp_width=160)
SHAPES = {
    "sequential": StepShape(2, 40, 3, 20, 20),
    "jacobi": StepShape(2, 30, 6, 10, 10, "jacobi", 2),
    "single_pass": StepShape(2, 30, 20, 10, 30, "single_pass"),
    "single_pass, two whole passes": StepShape(2, 10, 40, 10, 30, "single_pass"),
    "text": StepShape(2, 40, 0, 20, 20),
    "chain": StepShape(2, 20, 2, 20, 20, chain=50, chain_labels=30),
}


def student(checkpointing: bool = False, device: str = "meta") -> LatentThoughtForCausalLM:
    base = hollow(config_of(SIZES, 500))
    if device != "meta":
        base = base.to_empty(device=device)
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig())
    if checkpointing:
        model.gradient_checkpointing_enable()
    return model


def allocated(model: Any, shape: StepShape, bf16: bool = False) -> int:
    """The most bytes that torch's CPU allocator gives to a real step, as its profiler sees them."""
    from torch.profiler import ProfilerActivity, profile

    model.train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = scored_passes(model, shape)
        loss.backward()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in seen.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    now = highest = 0
    for _, change in sorted(changes):
        now += change
        highest = max(highest, now)
    return highest


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_of_a_step_is_what_the_allocator_gives(name: str, checkpointing: bool) -> None:
    expected = allocated(student(checkpointing, "cpu"), SHAPES[name])
    # buffers inside operators (a matrix packed for a product) are seen by the allocator alone
    assert step_memory(student(checkpointing), SHAPES[name]) == pytest.approx(expected, rel=0.05)


def test_memory_of_a_step_under_autocast() -> None:
    shape = SHAPES["sequential"]
    expected = allocated(student(device="cpu"), shape, bf16=True)
    assert step_memory(student(), shape, bf16=True) == pytest.approx(expected, rel=0.05)


def test_live_bytes_of_a_chain() -> None:
    x = torch.ones(1000)
    with LiveBytes([x]) as memory:
        y = x * 2  # 4,000 bytes
        z = y + 1  # 4,000 more
        view = z[:10]  # none
        del y
        assert memory.now == 4000
        del z
        assert memory.now == 4000  # the view holds it
        del view
    assert (memory.now, memory.peak) == (0, 8000)


def test_a_spread_step_recomputes_whole_passes() -> None:
    """What `sharded()` decides is decided for the forecast as on one of several ranks."""
    model, shape = student(checkpointing=True), SHAPES["sequential"]
    spread = step_memory(model, shape, spread=True)
    assert spread > step_memory(student(checkpointing=True), shape)
    with supposed_sharded():
        assert spread == step_memory(student(checkpointing=True), shape)
    assert not sharded()


def test_gradients_count_where_they_stay() -> None:
    shape, model = SHAPES["text"], student()
    parameters = 4 * sum(p.numel() for p in model.parameters())
    there = step_memory(model, shape, gradients="there")
    away = step_memory(student(), shape, gradients="elsewhere")
    assert there == pytest.approx(away + parameters, rel=0.1) and away < step_memory(student(), shape) + 1


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("openai-community/gpt2", 124_439_808),
        ("openai-community/gpt2-medium", 354_823_168),
        ("openai-community/gpt2-large", 774_030_080),
        ("openai-community/gpt2-xl", 1_557_611_200),
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("meta-llama/Llama-3.2-3B", 3_212_749_824),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("meta-llama/Llama-3.1-70B", 70_553_706_496),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7_615_616_512),
    ],
)
def test_known_models_have_their_published_sizes(name: str, parameters: int) -> None:
    assert count_parameters(config_of(name)) == parameters


def test_every_model_that_a_list_recipes_is_known() -> None:
    recipes = [load_recipe(name) for name in list_recipes()]
    named = {recipe.model.base for recipe in recipes} | {r.teacher.model for r in recipes if r.teacher}
    hub = {name for name in named if name and name != "self" and not name.startswith("runs/")}
    assert hub and hub <= KNOWN.keys()


def parts(name: str, processes: int, *changes: str) -> dict[str, int]:
    models = planned_models(load_recipe(name, changes))
    return {part.name: part.bytes for part in forecast(models, processes).parts}


def test_shares_of_each_strategy() -> None:
    changes = ("training.batch_size=4", "model.scratch.layers=1", "engine.bucket_size=1000")
    models = planned_models(load_recipe("quickstart", changes))
    size = models.parameters
    assert models.trained == size
    strategies = ("ddp", "zero1", "zero2", "zero3", "fsdp2")
    found = {s: parts("quickstart", 4, *changes, f"engine={s}") for s in strategies}
    assert [found[s]["weights"] for s in found] == [4 * size, 4 * size, 4 * size, size, size]
    # two moments, and under ZeRO a float32 copy
    assert [found[s]["optimizer"] for s in found] == [8 * size, 3 * size, 3 * size, 3 * size, 2 * size]
    assert [found[s].get("gradients") for s in found] == [None, 4 * size, size, size, size]
    assert [found[s].get("buckets") for s in found] == [4 * size, 8000, 8000, 4000, None]
    assert found["zero3"]["gathered"] == 40_000
    kept = parts("quickstart", 4, *changes, "engine={strategy: zero2, offload: optimizer}")
    assert kept.keys() & {"weights", "optimizer", "gradients"} == {"weights"}


def test_a_teacher_stands_whole_or_in_shares() -> None:
    llama = 70_553_706_496
    changes = ("teacher.cache=null", "training.batch_size=64", "engine=zero3")
    models = planned_models(load_recipe("logic-distill", (*changes, "teacher.sharded=true")))
    assert (models.teacher_parameters, models.teacher_bytes) == (llama, 2 * llama)
    shares = {part.name: part.bytes for part in _steady(models.recipe, models, 8)}
    assert shares["teacher"] == 2 * llama // 8 and shares["teacher gathered"] == 2 * 10**9
    whole = planned_models(load_recipe("logic-distill", changes))
    parts = {part.name: part.bytes for part in _steady(whole.recipe, whole, 8)}
    assert parts["teacher"] == 2 * llama and "teacher gathered" not in parts


def test_adapters_and_projectors_by_hand() -> None:
    models = planned_models(load_recipe("lrd/3-student"), load_recipe("lrd/1-teacher"))
    # rank 16 on the queries (3072 -> 3072) and values (3072 -> 1024) of 28 blocks; five projectors 3072 -> 4096 with bias
    adapters = 28 * 16 * (3072 + 3072 + 3072 + 1024)
    assert models.trained == adapters + 5 * (3072 * 4096 + 4096)
    assert models.parameters == 3_212_749_824 + models.trained


def test_arithmetic_is_torchs_own_count() -> None:
    models = planned_models(load_recipe("quickstart", ("model.scratch.layers=2",)))
    model = LatentThoughtForCausalLM.from_base(hollow(models.student_config), ThoughtConfig())
    # eager attention: the counter does not know the CPU's fused one
    model.base.set_attn_implementation("eager")
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        model.to_empty(device="cpu")
        ids = torch.zeros(3, 50, dtype=torch.long)
        model.backbone.head(model.backbone.run(None, None, None, input_ids=ids).final)
    # it counts the whole square of attention, of which causality needs half
    inner = models.student_config.num_attention_heads * (
        models.student_config.hidden_size // models.student_config.num_attention_heads
    )
    upper_half = 2 * models.student_config.num_hidden_layers * inner * 50 * 50
    # biases, norms and positions count as if they were multiplied with
    assert 3 * (models.flops(50, 50, 50) + upper_half) == pytest.approx(counter.get_total_flops(), rel=5e-3)


def test_the_costliest_stage_counts() -> None:
    recipe = load_recipe("coconut-gpt2-gsm8k")
    shape = step_shape(recipe, 1024)
    assert (shape.thoughts, shape.feedback) == (recipe.curriculum.thoughts(-1), "sequential")
    assert shape.positions == recipe.data.max_length
    soft = step_shape(load_recipe("latent-thought-r1-1.5b"), 131_072)
    assert soft.thoughts > 500 and soft.labels > soft.thoughts


def test_a_batch_that_does_not_divide() -> None:
    with pytest.raises(ConfigError, match="batch_size 4 does not divide among 3 processes"):
        forecast(planned_models(load_recipe("lrd/3-student"), load_recipe("lrd/1-teacher")), 3)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["train", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_dry_run_plans_without_weights_or_network(capsys: pytest.CaptureFixture[str]) -> None:
    changes = ("engine=zero2", "model.scratch.layers=1", "data.limit=40", "training.batch_size=8")
    code, out, _ = run(
        capsys, "quickstart", *changes, "--dry-run", "--processes", "2,8", "--device-memory", "80"
    )
    assert code == 0, out
    assert "2 processes" in out and "8 processes" in out and "fits" in out and "TFLOP" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--processes", "8"), "--processes goes with --dry-run"),
        (("--device-memory", "80"), "--device-memory goes with --dry-run"),
        (("--dry-run", "--processes", "8,x"), "--processes 8,x: whole numbers from 1"),
        (("--dry-run", "--processes", "0"), "--processes 0: whole numbers from 1"),
        (("--dry-run", "--device-memory", "-1"), "--device-memory -1: gigabytes above 0"),
        (("--dry-run", "--processes", "7"), "does not divide among 7 processes"),
    ],
)
def test_what_cannot_be_planned(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, "quickstart", *arguments)
    assert code == 2 and message in err


def test_a_forecast_needs_no_library_of_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # as if it were not installed
    models = planned_models(load_recipe("quickstart", ("model.scratch.layers=1", "training.batch_size=2")))
    others = forecast(models, 2).others
    assert all(size is not None for size in others.values()) and len(others) == 5


def test_a_quantised_base_leaves_no_copies(tmp_path: Path) -> None:
    """Its layers are a quarter, or an eighth, of float32, and autocast makes no copies of them that stay."""
    changes = (
        "training.batch_size=1",
        "data.max_length=32",
        "engine.precision=bf16",
    )
    # two of the sixteen blocks of Llama-3.2-1B, fewer words
    config = LlamaConfig(
        vocab_size=1024,  # the head is not what a step is highest at
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=2,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    )
    config.save_pretrained(tmp_path)
    base = (
        f"model.base={tmp_path}",
        "model.scratch=null",
        "model.lora={r: 2}",
        "objective.1.layers=[1,2]",
        *changes,
    )
    found = {}
    for kind in ("none", "4bit"):
        recipe = load_recipe("lrd/3-student", (*base, f"model.lora.quantize={kind}"))
        models = planned_models(recipe, load_recipe("lrd/1-teacher"))
        found[kind] = {part.name: part.bytes for part in forecast(models, 1).parts}
    in_blocks = 2 * (2 * 2048 * 2048 + 2 * 2048 * 512 + 3 * 2048 * 8192 + 2 * 2048) + 2048
    assert found["none"]["weights"] - found["4bit"]["weights"] == pytest.approx((4 - 0.52) * in_blocks)
    moving = "gradients and activations"
    # 2 bytes of each weight, but for what stands at the other moment at which a step without them is at its highest
    assert in_blocks < found["none"][moving] - found["4bit"][moving] <= 2 * in_blocks


def test_what_is_elsewhere_is_not_on_the_device() -> None:
    changes = ("teacher.cache=null", "training.batch_size=64")
    models = planned_models(load_recipe("logic-distill", (*changes, "teacher.device=cpu")))
    assert "teacher" not in {part.name for part in _steady(models.recipe, models, 8)}
    assert _on_host(models.recipe, models, 8) >= 2 * 70_553_706_496
    small = ("training.batch_size=4", "model.scratch.layers=1", "engine={strategy: zero3, offload: all}")
    spread = planned_models(load_recipe("quickstart", small))
    # weights, gradients, two moments and a copy, of a share
    assert _on_host(spread.recipe, spread, 4) == max(4 * spread.parameters, 20 * spread.trained // 4)


def test_the_longest_row_is_found_without_laying_all_of_them_out() -> None:
    from latentthought.training.preparation import prepare

    prepared = prepare(load_recipe("quickstart", smoke=True), smoke=True)
    rows, tokens = prepared.dataset.rows, prepared.dataset.tokens
    longest = max(prepared.recipe.curriculum.longest(row, tokens) for row in rows)
    shape = step_shape(prepared.recipe, None, rows, tokens)
    last = max(len(prepared.recipe.curriculum.layout(row, 5, None, tokens)) for row in rows)
    assert shape.positions == last <= longest


def _time_line(out: str) -> str:
    """The line about time, which a console may have broken."""
    flat = " ".join(out.split())
    return flat[flat.index("time about") :] if "time about" in flat else ""


def test_dry_run_says_how_long_it_takes_on_the_cpu_at_hand(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "quickstart", "--smoke", "--dry-run", "engine.threads=1")
    assert code == 0, out
    line = _time_line(out)
    assert "a step" in line and "for 24 steps at most, on 1 thread of this CPU" in line
    assert "carried over by a second of measuring here" in line and "extrapolated" not in line


def test_what_lies_beyond_the_measured_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    changes = (
        "data.limit=40",
        "training.batch_size=8",
        "model.scratch.max_positions=8192",
        "model.scratch.layers=1",
    )
    code, out, _ = run(
        capsys, "quickstart", *changes, "engine.precision=bf16", "--dry-run", "--processes", "1,2"
    )
    assert code == 0 and "extrapolated" not in _time_line(out)
    assert "they are of fp32, and bf16 may be slower or faster" in _time_line(out)
    # without rows at hand the longest that the recipe lets through count
    absent = ("data.source=file", "data.path=nowhere.jsonl", "data.max_length=8000")
    code, out, _ = run(capsys, "quickstart", *changes, *absent, "--dry-run", "--processes", "1")
    assert code == 0 and "a step of the longest rows" in _time_line(out)
    assert "extrapolated, beyond all that was measured: rows of 8,000 positions" in _time_line(out)


def test_of_gpus_and_many_processes_nothing_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("model.scratch.layers=1", "data.limit=40", "training.batch_size=8")
    for asked in (("--processes", "2"), ("--processes", "1", "--device-memory", "80")):
        code, out, _ = run(capsys, "quickstart", *small, "--dry-run", *asked)
        assert code == 0 and "TFLOP" in out and not _time_line(out), asked
