"""Curves hold the metrics' own numbers, and say which runs and stages they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latentthought.reporting.figures.catalog import FIGURES
from latentthought.reporting.figures.given import NothingToDraw, read_given
from tests.reporting.made import METRICS, metrics, read_csv, recipe


def test_hidden_loss_and_drift_hold_the_numbers(tmp_path: Path) -> None:
    given = read_given([metrics(tmp_path / "run")])
    FIGURES["hidden_loss"].draw(given, tmp_path / "out" / "hidden_loss")
    rows = read_csv(tmp_path / "out" / "hidden_loss.csv")
    assert [(float(row["step"]), float(row["value"])) for row in rows] == [(10, 1.0), (20, 0.1), (30, 0.01)]
    assert {row["key"] for row in rows} == {"loss_hidden"}
    FIGURES["drift"].draw(given, tmp_path / "out" / "drift")
    rows = read_csv(tmp_path / "out" / "drift.csv")
    shown = {(row["key"], float(row["step"])): float(row["value"]) for row in rows}
    for row in METRICS[1:]:
        assert shown["1 - thought_cosine", row["step"]] == pytest.approx(1 - row["thought_cosine"])
        assert shown["thought_gap", row["step"]] == row["thought_gap"]
    assert shown["loss_hidden_cosine", 30] == 0.25
    assert len(rows) == 3 + 2 + 2


def test_a_hidden_loss_is_logarithmic(tmp_path: Path, axes: list[Any]) -> None:
    FIGURES["hidden_loss"].draw(read_given([metrics(tmp_path / "run")]), tmp_path / "h")
    (axis,) = axes
    assert axis.get_yscale() == "log"


def test_losses_are_told_once(tmp_path: Path) -> None:
    FIGURES["loss"].draw(read_given([metrics(tmp_path / "run")]), tmp_path / "loss")
    keys = list(dict.fromkeys(row["key"] for row in read_csv(tmp_path / "loss.csv")))
    assert keys == ["loss", "loss_ce", "loss_hidden", "loss_hidden_mse", "loss_hidden_cosine"], (
        "no weighted shares"
    )
    plain = [{key: value for key, value in row.items() if key != "loss_hidden_cosine"} for row in METRICS]
    FIGURES["loss"].draw(read_given([metrics(tmp_path / "plain", plain)]), tmp_path / "p")
    assert {row["key"] for row in read_csv(tmp_path / "p.csv")} == {"loss", "loss_ce", "loss_hidden"}
    single = [{"step": 1, "loss": 1.0, "loss_ce": 1.0}, {"step": 2, "loss": 0.5, "loss_ce": 0.5}]
    FIGURES["loss"].draw(read_given([metrics(tmp_path / "single", single)]), tmp_path / "one")
    assert {row["key"] for row in read_csv(tmp_path / "one.csv")} == {"loss"}


def test_seeds_share_a_colour_and_an_entry(tmp_path: Path, axes: list[Any]) -> None:
    for seed in (1, 2):
        recipe(metrics(tmp_path / f"arm-{seed}"), "hops/feature", f"seed={seed}")
    recipe(metrics(tmp_path / "other"), "hops/ce")
    FIGURES["mix_ratio"].draw(read_given([tmp_path]), tmp_path / "m")
    (axis,) = axes
    colours = [line.get_color() for line in axis.lines]
    assert colours[0] == colours[1] != colours[2]
    (legend,) = axis.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["arm (2 seeds)", "other"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("drift", "latent states"),
        ("hidden_loss", "hops/feature"),
        ("scale", "thought_rms_ratio"),
        ("accuracy", "accuracy"),
    ],
)
def test_what_is_missing_is_said(name: str, words: str, tmp_path: Path) -> None:
    given = read_given([metrics(tmp_path / "run", [{"step": 1, "loss": 1.0}])])
    with pytest.raises(NothingToDraw, match=words):
        FIGURES[name].draw(given, tmp_path / "out" / name)
    assert not (tmp_path / "out").exists()
