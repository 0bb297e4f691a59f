"""The memory of a training step against its forecast (`latentthought.training.hollow_step`), which counts it without weights.

A random model of GPT-2's architecture, AdamW in float32, one step after the one that makes the moments: weights, moments, and
what a forward and a backward pass take at their highest. On a GPU that is the allocator's own peak; on a CPU what torch's
profiler sees the allocator give out. A forecast is worth having if it is within a tenth.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.findings import Findings, Table
from benchmarks.report import Target
from benchmarks.settings import Settings
from benchmarks.timing import peak_bytes
from benchmarks.workload import Sizes, make_base, make_model
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.training.hollow_step import StepShape, scored_passes, step_memory

WANTED = 0.1


def run(settings: Settings) -> Findings:
    """Measure and forecast steps of words and of thoughts, with and without recomputing, in fp32 and bf16."""
    sizes = settings.sizes
    rows, targets, data = [], [], {}
    for thoughts in (0, sizes.thoughts):
        for recomputing in (False, True):
            for bf16 in (False, True):
                name = f"{thoughts} thoughts, {'bf16' if bf16 else 'fp32'}{', recomputed' if recomputing else ''}"
                settings.progress(f"memory: {name}")
                shape = shape_of(sizes, thoughts)
                taken = measured(settings, shape, recomputing, bf16)
                told = forecast(settings, shape, recomputing, bf16)
                rows.append(
                    [name, *(f"{size / 2**20:,.0f} MiB" for size in (taken, told)), f"{told / taken:.3f}"]
                )
                targets.append(Target.at_most(name, "forecast off by", abs(told / taken - 1), WANTED))
                data[name] = {"measured": taken, "forecast": told}
    title = (
        f"batch {sizes.batch}, {sizes.sequence} positions; {sizes.layers} layers x {sizes.width}, "
        f"vocabulary {sizes.vocabulary}"
    )
    table = Table(
        "peak of a step: weights, moments, gradients, activations",
        ["step", "measured", "forecast", "ratio"],
        rows,
    )
    return Findings("memory", title, [table], targets, data)


def shape_of(sizes: Sizes, thoughts: int) -> StepShape:
    """The benchmarks' batch, with so many of its positions thoughts."""
    before = sizes.first_thought
    after = sizes.sequence - before - thoughts
    return StepShape(sizes.batch, before, thoughts, after, sizes.labelled)


def _model(settings: Settings, recomputing: bool, device: torch.device) -> LatentThoughtForCausalLM:
    with device:
        model = make_model(make_base(settings.sizes, device, settings.seed)).train()
    if recomputing:
        model.gradient_checkpointing_enable()
    return model


def measured(settings: Settings, shape: StepShape, recomputing: bool, bf16: bool) -> int:
    """Bytes of a real step at their highest."""
    device = settings.device
    model = _model(settings, recomputing, device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def passes() -> None:
        with device, torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = scored_passes(model, shape)
        loss.backward()

    passes()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    # the optimizer's own step takes nothing more on either device: its fused form works in place
    standing = sum(p.numel() * p.element_size() for p in model.parameters())
    standing += sum(
        s.numel() * s.element_size() for state in optimizer.state.values() for s in state.values()
    )
    return standing + peak_bytes(passes, device)


def forecast(settings: Settings, shape: StepShape, recomputing: bool, bf16: bool) -> int:
    """Bytes of the same step by the forecast."""
    small = replace(settings, device=torch.device("meta"))
    model = _model(small, recomputing, small.device)
    parameters = sum(p.numel() for p in model.parameters())
    return 12 * parameters + step_memory(model, shape, bf16=bf16)
