"""What other commands draw: the curves of runs, and a chart of accuracies. `latentthought plot` draws more: `figures.catalog`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latentthought.errors import UserError
from latentthought.reporting.figures.bars import bar_chart
from latentthought.reporting.figures.canvas import COLOURS, DASHES, require_matplotlib
from latentthought.reporting.figures.catalog import FIGURES
from latentthought.reporting.figures.given import NothingToDraw, read_given

__all__ = ["COLOURS", "DASHES", "bar_chart", "plot_runs"]


def plot_runs(runs: Sequence[str | Path], output: str | Path) -> list[Path]:
    """Draw the curves of one or more runs into `output`; the files written, PNG, SVG and CSV of each figure.

    A figure whose numbers no run has is not drawn. Raises `MissingExtraError` without matplotlib and `UserError` when
    there is nothing to draw.
    """
    given, output = read_given(runs), Path(output)
    require_matplotlib()
    files: list[Path] = []
    for name, figure in FIGURES.items():
        if figure.curve:
            try:
                files += figure.draw(given, output / name)
            except NothingToDraw:
                continue
    if not files:
        raise UserError(f"nothing to draw: no numbers in the metrics of {', '.join(map(str, runs))}")
    return files
