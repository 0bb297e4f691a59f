"""How alike each layer of the student is to each layer of the teacher, as a picture; computed by `distillation.similarity`."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.reporting.figures.canvas import COLOURS, INK, pyplot, shorten, write
from latentthought.reporting.figures.given import Given, NothingToDraw

if TYPE_CHECKING:
    from latentthought.distillation.similarity import Similarity

_ANNOTATED = 18
# inches that a letter of the heading takes
_LETTER = 0.078
MEASURES = {
    "cosine": "mean cosine of the states",
    "projected cosine": "mean cosine, the student's states through its projectors",
    "cka": "linear CKA (debiased): the widths differ, and there is no projector",
}


def draw_layers(given: Given, stem: Path) -> list[Path]:
    """The layers of one run's student against those of its teacher."""
    if given.similarity is None:
        raise NothingToDraw("it loads the student and its teacher: ask for it with --figure layers")
    runs = [run for run in given.runs if (run.folder / "model").is_dir() and run.recipe is not None]
    if not runs:
        raise NothingToDraw("no finished run folder (with recipe.yaml and model/) among what was given")
    if len(runs) > 1:
        raise NothingToDraw(f"one run at a time, and {len(runs)} were given; the first is {runs[0].folder}")
    return draw_similarity(given.similarity(runs[0]), runs[0].name, stem)


def draw_similarity(found: Similarity, name: str, stem: Path) -> list[Path]:
    """A cell for each pair of layers, its value in it where there is room; the pairs that the objective compares are framed."""
    values = found.values_ST.tolist()
    rows, columns = len(values), len(values[0])
    framed = "; framed: the pairs that training compared" if found.compared else ""
    heading = (
        f"{shorten(name)}: {MEASURES[found.measure]}",
        f"{found.positions:,} positions ({found.rule}) of {found.rows:,} rows{framed}",
    )
    width = min(max(4.6, 2.2 + 0.52 * columns), 12)
    lines = [part for text in heading for part in textwrap.wrap(text, int(width / _LETTER))]
    height = min(max(3.1, 1.4 + 0.46 * rows), 10) + 0.16 * len(lines)
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
    known = [value for line in values for value in line if not math.isnan(value)]
    low = min([0.0, *known])
    colours = plt.get_cmap("cividis").with_extremes(bad="#DDDDDD")
    image = axis.imshow(values, cmap=colours, vmin=low, vmax=1.0, origin="lower", aspect="auto")
    if max(rows, columns) <= _ANNOTATED:
        for row, line in enumerate(values):
            for column, value in enumerate(line):
                pale = math.isnan(value) or (value - low) / (1 - low) > 0.55
                shade = INK if pale else "white"
                text = "–" if math.isnan(value) else f"{round(value, 2) + 0.0:.2f}"
                axis.text(column, row, text, ha="center", va="center", fontsize=7.5, color=shade)
    for student, teacher in found.compared:
        if student in found.student_layers and teacher in found.teacher_layers:
            _frame(axis, found.student_layers.index(student), found.teacher_layers.index(teacher))
    _ticks(axis.set_xticks, found.teacher_layers)
    _ticks(axis.set_yticks, found.student_layers)
    axis.set_xlabel("layer of the teacher")
    axis.set_ylabel("layer of the student")
    figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left")
    figure.colorbar(image, ax=axis, shrink=0.9)
    table = [
        (student, teacher, value, found.measure, int((student, teacher) in found.compared))
        for student, line in zip(found.student_layers, values, strict=True)
        for teacher, value in zip(found.teacher_layers, line, strict=True)
    ]
    return write(figure, stem, ("student_layer", "teacher_layer", "value", "measure", "compared"), table)


def _ticks(put: Any, layers: tuple[int, ...]) -> None:
    """Names of the layers; of many, some."""
    step = max(1, -(-len(layers) // 20))
    shown = [place for place in range(len(layers)) if place % step == 0 or place == len(layers) - 1]
    put(shown, ["emb." if layers[place] == 0 else str(layers[place]) for place in shown], fontsize=8)


def _frame(axis: Any, row: int, column: int) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(
        Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor=COLOURS[1], linewidth=2.2)
    )
