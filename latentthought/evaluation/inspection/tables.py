"""What was found about the thoughts of a task, as tables for a terminal."""

from __future__ import annotations

from typing import Any

from latentthought.evaluation.inspection.results import Faithfulness, kinds_in
from latentthought.evaluation.tables import percent, plain_table, spanned


def render_effects(found: Faithfulness) -> Any:
    """A rich table: the share of answers that each change of each thought changes, total effects."""
    table = plain_table()
    kinds = kinds_in(found.effects)
    led = any(effect.led is not None for effect in found.effects)
    for column in ("thought", *kinds, *(["led"] if led else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for thought in range(1, found.thoughts + 1):
        total = {kind: found.effect(thought, kind, "total") for kind in kinds}
        shown = [effect.flipped if effect else None for effect in total.values()]
        swapped = total.get("swapped")
        shown += [swapped.led if swapped else None] if led else []
        # the intervals below the numbers: five kinds side by side are wider than a terminal
        table.add_row(str(thought), *(spanned(share).replace(" (", "\n(") for share in shown))
    return table


def render_probes(found: Faithfulness) -> Any | None:
    """A rich table: how well a linear probe reads the result of each step off each thought; None where nothing was probed."""
    if not found.probes:
        return None
    steps = sorted({probe.step for probe in found.probes})
    score = {(probe.thought, probe.step): probe for probe in found.probes}
    table = plain_table()
    for column in ("", *(f"step {step}" for step in steps)):
        table.add_column(column, justify="right", no_wrap=True)
    for thought in range(1, found.thoughts + 1):
        table.add_row(f"thought {thought}", *(percent(score[thought, step].accuracy.value) for step in steps))
    table.add_row("commonest result", *(percent(score[1, step].majority) for step in steps))
    table.add_row(
        "shuffled results",
        *(
            percent(max(score[thought, step].shuffled for thought in range(1, found.thoughts + 1)))
            for step in steps
        ),
    )
    return table
