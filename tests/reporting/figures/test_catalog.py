"""All figures from one folder by one call, what is left out and why, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latentthought.distillation.similarity import Similarity
from latentthought.errors import ConfigError, NotFoundError, UserError
from latentthought.reporting.figures.catalog import FIGURES, draw
from latentthought.reporting.figures.given import NothingToDraw, read_given
from tests.reporting.made import METRICS, metrics, read_csv, recipe, results

SIMILARITY = Similarity(
    torch.tensor([[0.9, float("nan"), 0.1], [0.2, 0.8, -0.3]]),
    (0, 2),
    (0, 1, 2),
    "cosine",
    "shared",
    1234,
    64,
    ((2, 1), (5, 5)),
)


def test_every_figure_of_a_folder(tmp_path: Path) -> None:
    run = recipe(metrics(tmp_path / "run"))
    (run / "model").mkdir()
    results(run, range(12), settings={"thoughts": 5}, recipe=None)
    results(run, range(4), control="shuffled")
    drawn = draw(read_given([run], lambda run: SIMILARITY), tmp_path / "figures")
    made = {path.stem for path in drawn.files}
    assert made == {
        *(
            "loss",
            "accuracy",
            "mix_ratio",
            "scale",
            "drift",
            "hidden_loss",
            "learning_rate",
            "ablation",
            "layers",
        )
    }
    assert made | drawn.left_out.keys() == set(FIGURES)
    assert not made & drawn.left_out.keys()
    for name in made:
        files = [tmp_path / "figures" / f"{name}{suffix}" for suffix in (".png", ".svg", ".csv")]
        assert all(file.stat().st_size > 0 for file in files), name
        assert files[0].read_bytes().startswith(b"\x89PNG")
    assert "subjects" in drawn.left_out["by_domain"]


def test_the_same_numbers_give_the_same_files(tmp_path: Path) -> None:
    runs = [results(metrics(tmp_path / name), range(right)) for name, right in (("a", 5), ("b", 9))]
    for folder in ("one", "two"):
        draw(read_given(runs), tmp_path / folder)
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_similarity_is_drawn_as_it_is(tmp_path: Path) -> None:
    run = recipe(metrics(tmp_path / "run"))
    (run / "model").mkdir()
    draw(read_given([run], lambda run: SIMILARITY), tmp_path / "out", ["layers"])
    rows = read_csv(tmp_path / "out" / "layers.csv")
    assert [(row["student_layer"], row["teacher_layer"]) for row in rows[:4]] == [
        ("0", "0"),
        ("0", "1"),
        ("0", "2"),
        ("2", "0"),
    ]
    assert [row["compared"] for row in rows] == ["0", "0", "0", "0", "1", "0"]
    assert float(rows[5]["value"]) == pytest.approx(-0.3)
    svg = (tmp_path / "out" / "layers.svg").read_text()
    assert "1,234 positions (shared) of 64 rows" in svg


def test_what_is_refused(tmp_path: Path) -> None:
    run = metrics(tmp_path / "run")
    with pytest.raises(NotFoundError, match=r"unknown figure 'paretto'.*Did you mean pareto"):
        draw(read_given([run]), tmp_path / "out", ["paretto"])
    with pytest.raises(NothingToDraw, match=r"gain: .*latentthought evaluate"):
        draw(read_given([run]), tmp_path / "out", ["loss", "gain"])
    with pytest.raises(NothingToDraw, match="layers: it loads the student"):
        draw(read_given([run]), tmp_path / "out", ["layers"])
    a, b = results(tmp_path / "a", [1]), results(tmp_path / "b", [1], version=2)
    with pytest.raises(ConfigError, match=r"ablation: .*task version is 1 in .*a/.* and 2 in .*b/"):
        draw(read_given([a, b]), tmp_path / "out", ["ablation"])
    with pytest.raises(UserError, match=r"nothing to draw:\n  loss: no run given has metrics"):
        draw(read_given([a]), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_differs_leaves_the_other_figures(tmp_path: Path) -> None:
    a, b = results(metrics(tmp_path / "a"), [1]), results(metrics(tmp_path / "b"), [1], version=2)
    drawn = draw(read_given([a, b]), tmp_path / "out")
    assert "loss" in {path.stem for path in drawn.files}
    assert "task version" in drawn.left_out["gain"]


def test_names_of_any_length_and_number(tmp_path: Path) -> None:
    rows = [METRICS[0], METRICS[1]]
    for number in range(12):
        results(
            metrics(
                tmp_path / f"a-run-with-a-very-long-name-indeed-that-says-all-its-settings-{number}", rows
            ),
            [1],
        )
    assert draw(read_given([tmp_path]), tmp_path / "out").files
