"""`plot` by the command line: real runs, what it prints, what it leaves out, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.reporting.figures.catalog import FIGURES
from tests.reporting.made import metrics, read_csv, results


def said(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    found = main(arguments)
    captured = capsys.readouterr()
    assert found == code, captured.err
    return captured.out, captured.err


def test_list_and_help_name_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    listed, _ = said(capsys, ["plot", "--list"])
    assert [line.split()[0] for line in listed.splitlines()[::2]] == list(FIGURES)
    assert all(line.split()[0] == "needs" for line in listed.splitlines()[1::2])


def test_files_are_printed_and_the_rest_is_told(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path
) -> None:
    out, err = said(capsys, ["plot", str(trained_run), "--output", str(tmp_path / "figures")])
    files = [Path(line) for line in out.splitlines()]
    assert all(file.stat().st_size > 0 for file in files)
    assert {file.stem for file in files} == {
        *("loss", "accuracy", "mix_ratio", "scale", "drift", "learning_rate", "ablation")
    }
    assert err.startswith("not drawn:\n")
    told = {line.split(":")[0].strip() for line in err.splitlines()[1:]}
    assert told == set(FIGURES) - {file.stem for file in files}
    rows = read_csv(tmp_path / "figures" / "ablation.csv")
    assert {row["control"] for row in rows} == {"none", "no-thought", "pause", "shuffled", "noised"}


def test_figures_by_name(capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path) -> None:
    out, err = said(
        capsys,
        ["plot", "--figure", "loss,scale", str(trained_run), "--figure", "drift", "--output", str(tmp_path)],
    )
    assert [Path(line).name for line in out.splitlines()] == [
        f"{name}.{suffix}" for name in ("loss", "scale", "drift") for suffix in ("png", "svg", "csv")
    ]
    assert err == ""


def test_where_figures_go(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        metrics(Path(name))
    said(capsys, ["plot", "a", "--figure", "loss"])
    assert Path("a/plots/loss.png").is_file()
    said(capsys, ["plot", "a", "b", "--figure", "loss"])
    assert {row["run"] for row in read_csv(Path("plots/loss.csv"))} == {"a", "b"}
    said(capsys, ["plot", "a/metrics.jsonl", "--figure", "mix_ratio"])
    assert Path("a/plots/mix_ratio.png").is_file()


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = metrics(tmp_path / "run")
    for arguments, words in (
        ([], "say what to draw"),
        ([str(run), "--figure", ""], "--figure is empty"),
        ([str(tmp_path / "rum")], f"no such folder: {tmp_path / 'rum'}; did you mean {run}?"),
        ([str(run), "--figure", "los"], "Did you mean loss or hidden_loss?"),
        ([str(run), "--figure", "gain"], "gain: no results.json"),
        ([str(run), "--figure", "layers"], "layers: no finished run folder"),
        ([str(run), "--rows", "0"], "at least 1"),
        ([str(run), "--output", str(run / "metrics.jsonl")], "is not a folder"),
        ([str(results(tmp_path / "r", [1])), "--figure", "loss"], "loss: no run given has metrics"),
    ):
        _, err = said(capsys, ["plot", *arguments], 2)
        assert words in err
        assert "Traceback" not in err
    (run / "metrics.jsonl").write_text('{"step": 1}\n{broken\n{}\n')
    assert "metrics.jsonl, line 2" in said(capsys, ["plot", str(run)], 1)[1]
    assert not (run / "plots").exists()


@pytest.fixture(scope="module")
def taught_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smoke run with a teacher of another width, projectors and a companions file."""
    run = tmp_path_factory.mktemp("taught") / "run"
    changes = ["objective.1.balance=ce"]  # whose running means lie beside the projectors
    assert main(["train", "levels/feature", *changes, "--smoke", "--output", str(run)]) == 0
    return run


def test_layers_of_a_run(capsys: pytest.CaptureFixture[str], taught_run: Path, tmp_path: Path) -> None:
    arguments = ["plot", str(taught_run), "--figure", "layers", "--smoke", "--rows", "6"]
    said(capsys, [*arguments, "--output", str(tmp_path / "own")])
    rows = read_csv(tmp_path / "own" / "layers.csv")
    assert {row["measure"] for row in rows} == {"projected cosine"}
    assert any(row["compared"] == "1" for row in rows)
    assert all(-1 <= float(row["value"]) <= 1 for row in rows)
    # without its projectors the two widths are told apart by CKA
    shutil.copytree(taught_run, tmp_path / "bare")
    (tmp_path / "bare" / "companions.safetensors").unlink()
    arguments[1] = str(tmp_path / "bare")
    said(capsys, [*arguments, "--output", str(tmp_path / "cka")])
    assert {row["measure"] for row in read_csv(tmp_path / "cka" / "layers.csv")} == {"cka"}


def test_layers_of_another_teacher(
    capsys: pytest.CaptureFixture[str], taught_run: Path, trained_run: Path, tmp_path: Path
) -> None:
    out, _ = said(
        capsys,
        [
            "plot",
            str(trained_run),
            "--figure",
            "layers",
            "--teacher",
            str(trained_run),
            "--smoke",
            "--output",
            str(tmp_path),
        ],
    )
    assert "layers.png" in out
    rows = read_csv(tmp_path / "layers.csv")
    assert {row["measure"] for row in rows} == {"cosine"}
    _, err = said(capsys, ["plot", str(trained_run), "--figure", "layers", "--smoke"], 2)
    assert "has no teacher; name one with --teacher MODEL" in err
    _, err = said(
        capsys, ["plot", str(taught_run), "--figure", "layers", "--teacher", str(tmp_path / "x")], 2
    )
    assert "no such folder" in err
