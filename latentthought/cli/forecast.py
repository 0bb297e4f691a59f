"""The part of `train --dry-run` that says what a run takes, on as many processes as one asks about."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from latentthought.cli.parser import UsageError
from latentthought.errors import UserError

if TYPE_CHECKING:
    from latentthought.data.encoding import Encoded
    from latentthought.recipe import Recipe
    from latentthought.training.forecast import Forecast
    from latentthought.training.planned_models import Planned

# what a device sustains on large products in bf16: between a third and a half of what an A100 or H100 is sold for
SUSTAINED = 200e12


def read_counts(text: str) -> list[int]:
    """`8,64` -> [8, 64]; `UsageError` for anything but whole numbers from 1."""
    counts = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if min(counts) < 1:
        raise UsageError(f"--processes {text}: whole numbers from 1, such as 8 or 8,64")
    return counts


def plan(recipe: Recipe, counts: Sequence[int], device_gb: float | None, smoke: bool) -> None:
    """Print the forecast of a recipe for some numbers of processes; needs neither weights nor, in the end, data."""
    from latentthought.cli.console import console

    _check(recipe, counts)  # before rows are read, which takes its time
    rows, tokens, words, problem = _rows(recipe, smoke)
    if problem is not None:
        console().print(f"rows        not at hand, so the longest that the recipe lets through: {problem}\n")
    show_forecast(recipe, counts, device_gb, rows, tokens, words)


def show_forecast(
    recipe: Recipe,
    counts: Sequence[int],
    device_gb: float | None = None,
    rows: Sequence[Encoded] = (),
    tokens: Any = None,
    words: int | None = None,
) -> None:
    """Print it for rows that are at hand. device_gb: memory of a device, to say what fits. words: of the tokenizer, if known."""
    from latentthought.cli.console import console
    from latentthought.recipe import load_recipe
    from latentthought.training.forecast import forecast
    from latentthought.training.planned_models import planned_models

    _check(recipe, counts)
    earlier = recipe.teacher.recipe if recipe.teacher is not None else None
    models = planned_models(recipe, load_recipe(earlier) if earlier else None, words)
    terminal = console()
    with terminal.status("counting the memory of a step") if terminal.is_terminal else nullcontext():
        found = [forecast(models, count, rows, tokens) for count in counts]
    terminal.print(_table(models, found))
    terminal.print(_strategies(found, models, device_gb))
    terminal.print(_costs(models, found))
    if device_gb is None and counts[0] == 1 and recipe.engine.resolve_device() == "cpu":
        terminal.print(_time(models, found[0], rows, tokens))


def _check(recipe: Recipe, counts: Sequence[int]) -> None:
    from latentthought.training.strategy import check_settings

    check_settings(recipe)
    for count in counts:
        recipe.engine.accumulation(recipe.training.batch_size, count)


def _rows(recipe: Recipe, smoke: bool) -> tuple[Sequence[Encoded], Any, int | None, UserError | None]:
    """Rows, thought tokens, words of the tokenizer, and why there are none."""
    from latentthought.thoughts.layout import ThoughtTokens
    from latentthought.training.rows import training_rows

    try:
        data, examples = training_rows(recipe.data, None, recipe.seed, smoke)
        tokenizer = recipe.model.build_tokenizer(data.texts(examples), chat=data.format.chat)
        examples = data.rows_of(examples, tokenizer, recipe.curriculum, recipe.model.thought)
        # rows are only measured, so that any id serves
        thought = recipe.model.thought
        tokens = ThoughtTokens(
            start_id=None if thought.start_token is None else 0,
            end_id=None if thought.end_token is None else 0,
        )
        fitted = data.encode(examples, tokenizer, recipe.curriculum, tokens, None)
    except UserError as error:
        return (), None, None, error
    return fitted.rows, tokens, len(tokenizer), None


def _table(models: Planned, found: Sequence[Forecast]) -> Any:
    from rich.table import Table

    engine = models.recipe.engine
    checkpointing = ", gradient checkpointing" if engine.gradient_checkpointing else ""
    title = f"memory of a device, GB: {engine.strategy}, {engine.precision}{checkpointing}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for one in found:
        table.add_column(f"{one.processes} process{'' if one.processes == 1 else 'es'}", justify="right")
    table.add_column("of")
    table.add_row("rows at once", *(str(one.shape.rows) for one in found), "engine.micro_batch_size")
    names = list(dict.fromkeys(part.name for one in found for part in one.parts))
    for name in names:
        parts = [next((part for part in one.parts if part.name == name), None) for one in found]
        note = next(part.note for part in reversed(parts) if part is not None)
        table.add_row(name, *("" if part is None else _gb(part.bytes) for part in parts), note)
    table.add_row(
        "all", *(_gb(one.total) for one in found), "and what driver and allocator take", style="bold"
    )
    return table


def _strategies(found: Sequence[Forecast], models: Planned, device_gb: float | None) -> Any:
    from rich.table import Table

    limit = device_gb or _device_gb()
    title = "the same by strategy, GB" + (f"; a device has {limit:,.0f}" if limit else "")
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for one in found:
        table.add_column(f"{one.processes} process{'' if one.processes == 1 else 'es'}", justify="right")
    for strategy in found[0].others:
        row = []
        for one in found:
            total = one.others[strategy]
            if total is None:
                row.append("refused")
                continue
            fits = "" if not limit else "  fits" if total <= 0.9 * limit * 1e9 else "  too much"
            row.append(f"about {_gb(total)}{fits}")
        table.add_row(f"engine={strategy}", *row)
    return table


def _costs(models: Planned, found: Sequence[Forecast]) -> str:
    from latentthought.amounts import in_bytes, in_time

    keep, lines = models.recipe.training.keep_last + models.recipe.training.keep_best, []
    first = found[0]
    lines.append(
        f"arithmetic  {first.flops / 1e12:,.3g} TFLOP a step of {models.recipe.training.batch_size} rows; "
        f"at {SUSTAINED / 1e12:.0f} TFLOP/s a device "
        + ", ".join(f"{_short(one.flops / SUSTAINED / one.processes)} on {one.processes}" for one in found)
    )
    lines.append(
        f"disk        {in_bytes(first.checkpoint)} a checkpoint, {keep + 1} of them while one is written; "
        f"{in_bytes(4 * models.parameters)} the finished model"
    )
    held = ", ".join(f"{in_bytes(one.host)} on {one.processes}" for one in found)
    lines.append(
        f"host        for each process of a host while models are read, and for what is offloaded: up to {held}"
    )
    if models.teacher_bytes:
        seconds = models.teacher_flops(first.shape.positions) / SUSTAINED
        share = models.teacher_flops(first.shape.positions) * models.recipe.training.batch_size / first.flops
        lines.append(
            f"teacher     {share:.0%} of the arithmetic; its states from a cache (teacher.cache) take its memory and that away, "
            f"after {in_time(1000 * seconds)} of a device for 1,000 rows"
        )
    return "\n".join(lines)


def _time(models: Planned, found: Forecast, rows: Sequence[Encoded], tokens: Any) -> str:
    """How long it takes on the CPU at hand; of other devices nothing has been measured."""
    import torch

    from latentthought.amounts import in_time
    from latentthought.training.duration import duration, rates_here
    from latentthought.training.measured import measured

    known, threads = measured(), models.recipe.engine.threads
    told = duration(models, found.shape, known, rates_here(known, threads), rows, tokens)
    line = f"time        about {_short(told.step)} a step"
    if told.run is None:
        line += " of the longest rows"
    else:
        line += f" ({_short(told.longest)} in the costliest stage), {in_time(told.run)} for {told.steps:,} steps at most"
    threads = threads or torch.get_num_threads()
    line += (
        f", on {threads} thread{'' if threads == 1 else 's'} of this CPU; by rates of {known.machine}, {known.date} (off by "
        f"{known.median_error:.0%} there, at worst {known.worst_error:.0%}), carried over by a second of measuring here"
    )
    if models.recipe.engine.autocast != "fp32":
        line += f"; they are of fp32, and {models.recipe.engine.precision} may be slower or faster"
    if told.beyond:
        line += f"; extrapolated, beyond all that was measured: {', '.join(told.beyond)}"
    return line


def _device_gb() -> float | None:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else None


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f}" if size >= 1e8 else f"{size / 1e9:,.3f}"


def _short(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"
