"""A training step in FP8 against the same step in bf16: time, peak memory, and the loss after the same steps.

One random model of Llama's architecture (GPT-2 has no `nn.Linear`) with as many block weights as GPT-2 of the size that `--model`
names: 12 D^2 a layer; `xl` has 1.5 billion. All sides share its float32 weights: in turn its blocks get their float8 layers and
give them back, so nothing but the products differs. The batch has thoughts, so there are passes of a few positions, too, for
which rounding pays least. Losses are those of a fresh start from the same weights, on one batch, for a given number of steps.

FP8 is torchao's: native on a GPU of compute capability 8.9, and emulated on a CPU, where it costs time and shows that all runs.
transformer-engine is not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import workload
from benchmarks.agreement import Disagreement
from benchmarks.findings import Findings, Table
from benchmarks.report import Target
from benchmarks.settings import Settings
from benchmarks.timing import Side, Timing, measure
from benchmarks.train_step import our_loss
from benchmarks.workload import Sizes
from latentthought.errors import MissingExtraError
from latentthought.model.configuration import ThoughtConfig
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.training.float8 import MULTIPLE, Float8Config, choose, convert, make_plain

ROUNDS = 7
STEPS = 10
RATE = 1e-4
BF16 = "bf16"
RECIPES = ("tensorwise", "rowwise")
# what each of two operands may be off by, as a share of itself: half of the last of e4m3's three bits
FIRST_LOSS = 2 * 2.0**-4

Switch = Callable[[], Callable[[], object]]


def make_model(sizes: Sizes, device: torch.device, seed: int) -> LatentThoughtForCausalLM:
    """A random Llama with 12 D^2 block weights a layer (up to rounding), around which thoughts are fed back."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=-(-8 * sizes.width // (3 * MULTIPLE)) * MULTIPLE,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        max_position_embeddings=max(256, sizes.sequence),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=sizes.vocabulary - 1,
    )
    thought = ThoughtConfig(start_token=None, end_token=None)
    return LatentThoughtForCausalLM.from_base(LlamaForCausalLM(config), thought).to(device).train()


def run(settings: Settings) -> Findings:
    """Take the same steps by all sides, then time them in turn."""
    sizes, device = settings.sizes, settings.device
    title = (
        f"{settings.threads} threads; batch {sizes.batch}, {sizes.sequence} positions of which {sizes.thoughts} are thoughts; "
        f"{sizes.layers} layers x {sizes.width}, vocabulary {sizes.vocabulary}"
    )
    try:
        choices = {
            f"fp8, {recipe}": choose(Float8Config(backend="torchao", recipe=recipe), str(device))
            for recipe in RECIPES
        }
    except MissingExtraError as error:
        return Findings("fp8", title, [], skipped={"fp8": str(error)})
    model = make_model(sizes, device, settings.seed)
    batch = workload.make_batch(sizes, device, settings.seed)
    model.measure_scale()
    switches: dict[str, Switch] = {BF16: lambda: lambda: None}
    layers = 0
    for name, choice in choices.items():
        layers = convert(model, choice).layers
        back = make_plain(model)
        switches[name] = _switch(model, back)

    def loss() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return our_loss(model, batch, feedback="sequential")

    losses = {name: _losses(model, switch, loss, settings) for name, switch in switches.items()}
    for name, found in losses.items():
        off = abs(found[0] / losses[BF16][0] - 1)
        if not off < FIRST_LOSS:
            raise Disagreement(
                f"{name}: the first loss {found[0]} is {off:.1%} off that of bf16 {losses[BF16][0]}"
            )
    timings = _timings(model, switches, loss, settings)
    return _findings(title, model, layers, losses, timings)


def _switch(model: nn.Module, into: Callable[[], None]) -> Switch:
    """Puts the float8 layers of one side in; returns what takes them out again."""

    def switch() -> Callable[[], object]:
        into()
        return partial(make_plain, model)

    return switch


def _losses(model: nn.Module, switch: Switch, loss: Callable[[], Tensor], settings: Settings) -> list[float]:
    """The losses of a fresh start; weights are put back afterwards."""
    settings.progress("fp8: taking the same steps")
    start = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    back, found = switch(), []
    for _ in range(STEPS + 1):
        value = loss()
        found.append(float(value.detach()))
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    back()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(start[name])
    return found


def _timings(
    model: nn.Module, switches: dict[str, Switch], loss: Callable[[], Tensor], settings: Settings
) -> dict[str, Timing]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)

    def step(switch: Switch) -> None:
        back = switch()
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        back()

    sides = [
        Side(name, "floor" if name == BF16 else "ours", lambda switch=switch: step(switch))
        for name, switch in switches.items()
    ]
    return measure(
        sides,
        settings.device,
        settings.rounds_or(ROUNDS),
        progress=lambda text: settings.progress(f"fp8: {text}"),
    )


def _findings(
    title: str,
    model: nn.Module,
    layers: int,
    losses: dict[str, list[float]],
    timings: dict[str, Timing],
) -> Findings:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows, targets, data = [], [], {}
    for name, timing in timings.items():
        ratio, final = timing.ratio(timings[BF16]), losses[name][STEPS]
        memory = "" if timing.peak_bytes is None else f"{timing.peak_bytes / 2**20:,.0f} MiB"
        rows.append(
            [
                name,
                f"{timing.median * 1000:,.1f} ms",
                f"{timing.spread:.0%}",
                f"{ratio:.2f}",
                memory,
                f"{losses[name][0]:.4f}",
                f"{final:.4f}",
            ]
        )
        data[name] = {"seconds": timing.seconds, "peak_bytes": timing.peak_bytes, "losses": losses[name]}
        if name != BF16:
            drift = final / losses[BF16][STEPS]
            targets.append(Target.at_most(name, f"loss after {STEPS} steps over that of bf16", drift, 1.1))
    columns = ["side", "step", "±", "over bf16", "peak memory", "first loss", f"loss after {STEPS} steps"]
    shape = f"Llama architecture, {parameters / 1e6:,.1f} M parameters, {layers} linear layers in float8"
    return Findings("fp8", title, [Table(shape, columns, rows)], targets, data)
