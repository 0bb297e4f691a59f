"""What `train --dry-run` shows: the resolved recipe, the stages with their sizes, the first row as each stage lays it out, and
what the run takes of memory, disk and arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentthought.recipe import Recipe

# region -> (name, rich style); told apart without colour by the legend's brackets
STYLES = {
    "PROMPT": "dim",
    "DELIMITER": "yellow",
    "THOUGHT": "bold magenta",
    "STEP": "cyan",
    "ANSWER": "bold green",
}
SHOWN_PROMPT = 40


def show(recipe: Recipe, smoke: bool, device_gb: float | None = None) -> None:
    """Print everything; nothing is trained and nothing is written. device_gb: memory of a device, to say what fits."""
    import yaml
    from rich.text import Text

    from latentthought.cli.console import console
    from latentthought.cli.forecast import show_forecast
    from latentthought.processes import process_count
    from latentthought.training.float8 import check_float8
    from latentthought.training.run import prepare
    from latentthought.training.strategy import check_strategy, shown_settings

    terminal, count = console(), process_count()
    check_strategy(recipe)
    check_float8(recipe)
    recipe.engine.arguments(recipe.training.batch_size, count)
    terminal.print(Text(yaml.safe_dump(recipe.dump(), sort_keys=False, allow_unicode=True, width=110)))
    prepared = prepare(recipe, smoke)
    for line in prepared.summary():
        terminal.print(Text(line))
    if settings := shown_settings(recipe, prepared.model, count):
        terminal.print(Text(f"\n{settings}"))
    terminal.print()
    legend = Text("first row  ")
    for region, style in STYLES.items():
        legend.append(region.lower(), style=style).append("  ")
    terminal.print(legend)
    for number, stage in enumerate(recipe.curriculum.expand()):
        row = recipe.curriculum.layout(prepared.rows.rows[0], number, None, prepared.dataset.tokens)
        terminal.print(_coloured(row, prepared.tokenizer, f"{stage.name:<12} "))
    terminal.print()
    rows, words = prepared.dataset.rows, prepared.model.config.get_text_config().vocab_size
    show_forecast(recipe, [count], device_gb, rows, prepared.dataset.tokens, words)


def _coloured(row: Any, tokenizer: Any, name: str) -> Any:
    """One laid-out row as text: a token a piece, coloured by region, a long prompt cut in its middle."""
    from rich.text import Text

    from latentthought.thoughts.layout import REGION_BITS, Region

    text = Text(name)
    regions = [Region(flag & REGION_BITS) for flag in row.flags]
    prompt = sum(region is Region.PROMPT for region in regions)
    for place, region in enumerate(regions):
        if (
            region is Region.PROMPT
            and prompt > SHOWN_PROMPT
            and SHOWN_PROMPT // 2 <= place < prompt - SHOWN_PROMPT // 2
        ):
            if place == SHOWN_PROMPT // 2:
                text.append(f" [{prompt - SHOWN_PROMPT} tokens] ", style="dim italic")
            continue
        # a token alone loses the space before it in some tokenizers
        before = tokenizer.decode(row.ids[place - 1 : place]) if place else ""
        word = tokenizer.decode(row.ids[max(place - 1, 0) : place + 1])[len(before) :]
        text.append(word.replace("\n", "\\n"), style=STYLES.get(region.name, ""))
    return text
