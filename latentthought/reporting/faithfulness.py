"""The report on the thoughts over a data set: what each does to the answer, what can be read off it, and a few rows in full."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from latentthought.evaluation.inspection.results import (
    Faithfulness,
    Inspection,
    Mean,
    ThoughtEffect,
    kinds_in,
)
from latentthought.evaluation.tables import percent, span, spanned
from latentthought.reporting.charts import Bar
from latentthought.reporting.document import (
    Bars,
    Block,
    Details,
    Heading,
    Lines,
    Notice,
    Table,
    Text,
    to_html,
    write_text,
)
from latentthought.reporting.inspector import page

NAME = "inspection"
_ENDS = ("", "_low", "_high")
EFFECT_COLUMNS = (
    *("thought", "kind", "reach", "rows"),
    *(f"{name}{end}" for name in ("log_prob", "divergence", "flipped", "led") for end in _ENDS),
    "led_rows",
)
PROBE_COLUMNS = (
    *("thought", "step", "accuracy", "accuracy_low", "accuracy_high", "majority", "shuffled"),
    *("classes", "fitted_rows", "scored_rows", "left_out"),
)
_MEANINGS = {
    "removed": "left out, with the thoughts after it",
    "noised": "noise of its own size added, the thoughts after it thought again",
    "swapped": "another row's, whose step has another result; the thoughts after it thought again",
    "alike": "another row's, whose step has the same result; the thoughts after it thought again",
}


def write_faithfulness(folder: Path, found: Faithfulness, shown: Sequence[Inspection] = ()) -> list[Path]:
    """Write `inspection.json`, `effects.csv`, `probes.csv` and `inspection.html` into a folder."""
    return [
        write_text(folder / f"{NAME}.json", json.dumps(found.dump(), indent=2, ensure_ascii=False) + "\n"),
        write_text(folder / "effects.csv", _csv(EFFECT_COLUMNS, map(_effect_row, found.effects))),
        write_text(folder / "probes.csv", _csv(PROBE_COLUMNS, _probe_rows(found))),
        write_text(
            folder / f"{NAME}.html",
            to_html(f"Inside the thoughts: {found.task}, {found.model}", list(blocks(found, shown))),
        ),
    ]


def blocks(found: Faithfulness, shown: Sequence[Inspection] = ()) -> Iterator[Block]:
    """The whole report."""
    yield Text(
        f"{percent(found.accuracy.value)} of {found.rows:,} rows right after {found.thoughts} "
        f"thought{'s' * (found.thoughts != 1)} ({span(found.accuracy.low, found.accuracy.high)})",
        strong=True,
    )
    if found.unfit:
        yield Text(f"{found.unfit:,} more rows do not fit into the model's context and were left out.")
    for remark in found.remarks:
        yield Notice("note", remark)
    yield from _effects(found)
    yield from _probes(found)
    if shown:
        yield Heading(f"The first {len(shown)} rows")
        yield from page(shown, level=3)
    yield Heading("How it was made")
    about = {
        **found.settings,
        "draws of noise": found.draws,
        "noise": found.noise,
        "versions": found.versions,
        "git": found.git,
    }
    yield Details("Settings", [Lines(json.dumps(about, indent=2, ensure_ascii=False))])


def _effects(found: Faithfulness) -> Iterator[Block]:
    yield Heading("What each thought does to the answer")
    yield Text(
        "Share of rows whose greedy answer becomes another one when a thought is changed, with 95 % intervals. A thought that "
        "stands for its step breaks the answer when it is swapped with one of another result, and does not when the result is "
        "the same. Direct: the thoughts after it stay as they were. Total: they follow from the change."
    )
    yield from _swaps(found)
    for kind in kinds_in(found.effects):
        yield Heading(f"{kind}: {_MEANINGS[kind]}", 3)
        yield Bars(
            [
                Bar(
                    f"thought {effect.thought}",
                    effect.flipped.value,
                    effect.flipped.low,
                    effect.flipped.high,
                    spanned(effect.flipped),
                )
                for effect in found.effects
                if (effect.kind, effect.reach) == (kind, "total")
            ]
        )
        if kind == "removed":
            yield Text(
                "A removed thought makes the row shorter, too: what breaks then need not be what it held."
            )
    yield Details("All numbers", list(_all_numbers(found)))


def _swaps(found: Faithfulness) -> Iterator[Block]:
    """The comparison that the rest is beside: another result against the same."""
    if not any(effect.kind == "alike" for effect in found.effects):
        return
    yield Table(
        (
            "thought",
            "another result, total",
            "same result, total",
            "another result, direct",
            *(["led, total"] if _led(found) else []),
        ),
        [
            (
                str(thought),
                *(
                    spanned(effect.flipped) if (effect := found.effect(thought, kind, reach)) else ""
                    for kind, reach in (("swapped", "total"), ("alike", "total"), ("swapped", "direct"))
                ),
                *([_share_led(found.effect(thought, "swapped", "total"))] if _led(found) else []),
            )
            for thought in range(1, found.thoughts + 1)
        ],
    )
    if _led(found):
        yield Text(
            "Led: answers that became the one to which the other row's result leads in this row's own table."
        )


def _all_numbers(found: Faithfulness) -> Iterator[Block]:
    yield Text(
        "Log probability: change of the model's own answer's, in nats. KL: at the answer's first word."
    )
    yield Table(
        (
            *("change", "reach", "thought", "answers changed"),
            *(["led"] if _led(found) else []),
            *("log probability", "KL", "rows"),
        ),
        [
            (
                effect.kind,
                effect.reach,
                str(effect.thought),
                spanned(effect.flipped),
                *([_share_led(effect)] if _led(found) else []),
                _meaned(effect.log_prob, "+.2f"),
                _meaned(effect.divergence, ".2f"),
                f"{effect.log_prob.n:,}",
            )
            for effect in found.effects
        ],
        left=2,
    )


def _led(found: Faithfulness) -> bool:
    return any(effect.led is not None for effect in found.effects)


def _share_led(effect: ThoughtEffect | None) -> str:
    return spanned(effect.led) if effect and effect.led else ""


def _probes(found: Faithfulness) -> Iterator[Block]:
    if not found.probes:
        return
    yield Heading("What can be read off each thought")
    steps = sorted({probe.step for probe in found.probes})
    score = {(probe.thought, probe.step): probe for probe in found.probes}
    any_row = found.probes[0]
    yield Text(
        f"Accuracy of linear probes for the result of each step, fitted on {any_row.rows[0]:,} rows and scored on "
        f"{any_row.rows[1]:,} others. Below: always saying the commonest result, and probes fitted on shuffled results. "
        "That a result can be read does not mean that the answer makes use of it."
    )
    rows = [
        (f"thought {thought}", *(percent(score[thought, step].accuracy.value) for step in steps))
        for thought in range(1, found.thoughts + 1)
    ]
    rows.append(("commonest result", *(percent(score[1, step].majority) for step in steps)))
    shuffled = (
        percent(max(score[thought, step].shuffled for thought in range(1, found.thoughts + 1)))
        for step in steps
    )
    rows.append(("shuffled results, the best", *shuffled))
    yield Table(("", *(f"step {step}" for step in steps)), rows)
    yield Details(
        "With intervals",
        [
            Table(
                (
                    "thought",
                    "step",
                    "accuracy (95 %)",
                    "commonest",
                    "shuffled",
                    "results",
                    "rows scored",
                    "left out",
                ),
                [
                    (
                        str(probe.thought),
                        str(probe.step),
                        spanned(probe.accuracy),
                        percent(probe.majority),
                        percent(probe.shuffled),
                        str(probe.classes),
                        f"{probe.rows[1]:,}",
                        f"{probe.left_out:,}",
                    )
                    for probe in found.probes
                ],
                left=2,
            )
        ],
    )


def _meaned(mean: Mean, form: str) -> str:
    # rounded first, so that nothing is not shown as less than nothing
    value, low, high = (round(number, 2) + 0.0 for number in (mean.value, mean.low, mean.high))
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def _effect_row(effect: ThoughtEffect) -> list[object]:
    led = effect.led
    return [
        effect.thought,
        effect.kind,
        effect.reach,
        effect.log_prob.n,
        *(
            value
            for mean in (effect.log_prob, effect.divergence)
            for value in (mean.value, mean.low, mean.high)
        ),
        *(effect.flipped.value, effect.flipped.low, effect.flipped.high),
        *(("", "", "", "") if led is None else (led.value, led.low, led.high, led.n)),
    ]


def _probe_rows(found: Faithfulness) -> Iterator[list[object]]:
    for probe in found.probes:
        accuracy = probe.accuracy
        yield [
            *(probe.thought, probe.step, accuracy.value, accuracy.low, accuracy.high),
            *(probe.majority, probe.shuffled, probe.classes, *probe.rows, probe.left_out),
        ]


def _csv(columns: Sequence[str], rows: Iterator[list[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
