"""The table of all figures, and the one way to draw them: those that are asked for, or all that can be made.

A figure is a function from what was given and a file stem to the files that it wrote. Where the numbers for it are missing it
raises `NothingToDraw`, where runs cannot stand in one picture a `ConfigError` or `DataError`: an error when the figure was asked
for by name, else the reason why it was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentthought.errors import ConfigError, DataError, MissingFileError, NotFoundError, UserError, unknown
from latentthought.reporting.figures.bars import draw_ablation, draw_domains
from latentthought.reporting.figures.canvas import require_matplotlib
from latentthought.reporting.figures.costs import draw_pareto, draw_size
from latentthought.reporting.figures.curves import (
    draw_accuracy,
    draw_drift,
    draw_hidden,
    draw_losses,
    draw_mix,
    draw_rate,
    draw_scale,
)
from latentthought.reporting.figures.gains import draw_gain
from latentthought.reporting.figures.given import Given, NothingToDraw
from latentthought.reporting.figures.heatmap import draw_layers
from latentthought.reporting.figures.radar import draw_radar
from latentthought.reporting.figures.sensitivity import draw_sensitivity
from latentthought.reporting.figures.thinking import draw_thoughts


@dataclass(frozen=True, slots=True)
class Figure:
    """shows, needs: for the list of `plot --list`. curve: made from metrics alone."""

    draw: Callable[[Given, Path], list[Path]]
    shows: str
    needs: str
    curve: bool = False


FIGURES: dict[str, Figure] = {
    "loss": Figure(draw_losses, "losses by term, with the stages", "metrics", curve=True),
    "accuracy": Figure(
        draw_accuracy, "accuracy on training and validation rows over steps", "metrics", curve=True
    ),
    "mix_ratio": Figure(draw_mix, "mix ratio over steps", "metrics", curve=True),
    "scale": Figure(draw_scale, "thought RMS / embedding RMS, and their cosine", "metrics", curve=True),
    "drift": Figure(
        draw_drift,
        "cosine distances of latent states over steps, and the feedback's gap",
        "metrics of runs with thoughts or a hidden term",
        curve=True,
    ),
    "hidden_loss": Figure(
        draw_hidden,
        "how the hidden losses fall, logarithmic",
        "metrics of runs with a hidden term",
        curve=True,
    ),
    "learning_rate": Figure(draw_rate, "learning rate over steps", "metrics", curve=True),
    "ablation": Figure(
        draw_ablation,
        "accuracy of each run and under each control, with intervals",
        "two results of one task",
    ),
    "gain": Figure(
        draw_gain,
        "gain over the first run given, with its paired interval",
        "two runs with results and samples",
    ),
    "by_domain": Figure(draw_domains, "accuracy by subject and level", "results of a task with groups"),
    "radar": Figure(
        draw_radar, "runs over tasks or subjects", "results of three tasks, or with three subjects"
    ),
    "sensitivity": Figure(
        draw_sensitivity,
        "accuracy against the settings that differ (alpha, LoRA rank, layers, ...)",
        "a sweep, or runs that differ in one or two settings, with results",
    ),
    "size": Figure(
        draw_size, "accuracy against parameters", "results of models of several sizes, with their weights"
    ),
    "pareto": Figure(
        draw_pareto,
        "accuracy against thoughts, tokens, milliseconds, steps and seconds of training; the front",
        "two runs with results",
    ),
    "thoughts": Figure(
        draw_thoughts,
        "accuracy against the number of thoughts, the trained one marked",
        "results of `evaluate --thoughts N` for several N",
    ),
    "layers": Figure(
        draw_layers,
        "layer-by-layer similarity of student and teacher",
        "one finished run with a teacher; only made when asked for, since it loads both models",
    ),
}


@dataclass
class Drawn:
    """files: written, in order. left_out: figure -> why it was not drawn."""

    files: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def check_figures(names: Sequence[str]) -> None:
    """Raise `NotFoundError`, with the nearest match, for the name of no figure."""
    for name in names:
        if name not in FIGURES:
            raise NotFoundError(f"--figure: {unknown('figure', name, FIGURES)}")


def draw(given: Given, output: Path, names: Sequence[str] | None = None) -> Drawn:
    """Draw the named figures into `output`, or (None) all that can be made.

    Raises `NotFoundError` for an unknown name, `MissingExtraError` without matplotlib, and for a named figure what it needs:
    `NothingToDraw`, or a `ConfigError` or `DataError` that says in what the runs differ. `UserError` where nothing can be drawn.
    """
    check_figures(names or ())
    require_matplotlib()
    drawn = Drawn()
    for name in FIGURES if names is None else dict.fromkeys(names):
        try:
            drawn.files += FIGURES[name].draw(given, output / name)
        except (NothingToDraw, ConfigError, DataError, MissingFileError) as error:
            if names is not None:
                raise type(error)(f"{name}: {error}") from None
            drawn.left_out[name] = str(error)
    if not drawn.files:
        told = "\n".join(f"  {name}: {why}" for name, why in drawn.left_out.items())
        raise UserError(f"nothing to draw:\n{told}")
    return drawn
