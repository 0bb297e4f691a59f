"""Sweeps through the command line, with a stand-in for the processes that they start: table, failures, resuming, stopping."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from latentthought.config import write_yaml
from latentthought.recipe import load_recipe
from latentthought.sweeping.plan import EvaluationChoice, plan_sweep, write_sweep
from latentthought.sweeping.running import LocalLauncher
from latentthought.training.monitor import CLOCKED
from tests.sweeping.conftest import PROGRAM, QUESTIONS, Fake

RATE = "training.learning_rate"
GRID = ["sweep", "quickstart", f"{RATE}=1e-3,3e-3", "--seeds", "2"]
# seed 1 is the recipe's own
NAMES = [f"learning_rate={rate},seed={seed}" for rate in ("1e-3", "3e-3") for seed in (1, 2)]
RIGHT = dict(zip(NAMES, (10, 12, 18, 19), strict=True))


def table(folder: Path) -> dict:
    return json.loads((folder / "table.json").read_text())


def test_a_sweep_from_grid_to_table(fake: Fake, said, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    fake.plan(RIGHT, validation=dict(zip(NAMES, (0.5, 0.6, 0.8, 0.9), strict=True)))
    folder = tmp_path / "sweep"
    shown = said([*GRID, "--output", str(folder), "--limit", "20"])
    calls = fake.calls()
    assert calls[0::2] == [f"train {name}" for name in NAMES]
    assert calls[1::2] == [f"evaluate {name} --task hops --limit 20" for name in NAMES]
    for name, right in RIGHT.items():
        assert f"{name}: done in" in shown
        assert f"hops {100 * right / QUESTIONS:.1f} %" in shown

    first, second = table(folder)["lines"]
    assert first["settings"] == {RATE: "1e-3"}
    assert first["baseline"] and not second["baseline"]
    assert (first["task"], first["control"], first["seeds"]) == ("hops", "none", [1, 2])
    assert first["accuracy"]["values"] == [0.5, 0.6]
    assert first["accuracy"]["value"] == pytest.approx(0.55)
    assert second["difference"]["values"] == pytest.approx([0.4, 0.35])
    assert second["difference"]["value"] == pytest.approx(0.375)
    assert second["means"]["validation_accuracy"] == pytest.approx(0.85)
    assert second["means"]["loss"] == 0.5
    assert second["means"]["training_seconds"] > 0
    # two values d apart: t of one degree of freedom is 12.706, the mean's standard error d / 2
    assert first["accuracy"]["seeds"] == pytest.approx([0.0, 1.0])
    assert second["difference"]["seeds"] == pytest.approx(
        [0.375 - 12.7062 * 0.025, 0.375 + 12.7062 * 0.025], abs=1e-4
    )

    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert [float(row["accuracy"]) for row in rows] == pytest.approx([0.55, 0.925])
    assert [row[RATE] for row in rows] == ["1e-3", "3e-3"]
    written = (folder / "table.md").read_text()
    assert "| 3e-3 | hops | 2 | 92.5 % |" in written
    assert "another seed would give on the same questions" in written.replace("\\", "")
    assert "figure.png" in written
    assert all((folder / f"figure.{suffix}").stat().st_size > 500 for suffix in ("png", "svg"))
    drawn = list(csv.DictReader((folder / "figure.csv").open()))
    assert [row["seeds"] for row in drawn] == ["0.5 0.6", "0.9 0.95"]
    stored = yaml.safe_load((folder / "sweep.yaml").read_text())
    assert stored["keys"] == {RATE: ["1e-3", "3e-3"]}
    assert list(stored["points"]) == NAMES


def test_a_failed_point_leaves_the_others_alone(fake: Fake, said, tmp_path: Path) -> None:
    fake.plan(RIGHT, crash={NAMES[1]: "out of luck"}, kill=[NAMES[2]])
    folder = tmp_path / "sweep"
    shown = said([*GRID, "--output", str(folder)], 1)
    assert f"{NAMES[1]} failed: out of luck" in shown
    assert f"{NAMES[2]} failed: killed by SIGKILL (out of memory?)" in shown
    assert "2 of 4 points failed" in shown
    first, second = table(folder)["lines"]
    assert (first["seeds"], first["failed"]) == ([1], [2])
    assert (second["seeds"], second["failed"]) == ([2], [1])
    assert second["difference"] is None, "no seed that both have"
    assert first["accuracy"]["seeds"] is None and first["accuracy"]["rows"] is not None
    assert "1 of 2, 1 failed" in (folder / "table.md").read_text()
    assert (folder / "points" / f"{NAMES[3]}.log").is_file()
    fake.calls()

    fake.plan()
    said([*GRID, "--output", str(folder), "--resume"])
    assert sorted(fake.calls()) == sorted(
        f"{call} {name}{' --task hops' if call == 'evaluate' else ''}"
        for name in NAMES[1:3]
        for call in ("train", "evaluate")
    ), "what is done is not done again"
    assert [line["failed"] for line in table(folder)["lines"]] == [[], []]


def test_a_setting_whose_points_all_failed(fake: Fake, said, tmp_path: Path) -> None:
    fake.plan(RIGHT, crash={NAMES[0]: "no", NAMES[1]: "no"})
    shown = said([*GRID, "--output", str(tmp_path / "sweep"), "--no-evaluate"], 1)
    assert "failed" in shown
    lines = table(tmp_path / "sweep")["lines"]
    assert lines[0]["accuracy"] is None
    assert "| 1e-3 | 0 of 2, 2 failed | failed |" in (tmp_path / "sweep" / "table.md").read_text()


def test_without_an_evaluation_the_table_has_the_runs_validation(fake: Fake, said, tmp_path: Path) -> None:
    fake.plan(validation=dict(zip(NAMES, (0.5, 0.6, 0.8, 0.9), strict=True)))
    folder = tmp_path / "sweep"
    said([*GRID, "--output", str(folder), "--no-evaluate"])
    assert all(call.startswith("train") for call in fake.calls())
    first, second = table(folder)["lines"]
    assert (first["task"], first["accuracy"]["values"]) == (None, [0.5, 0.6])
    assert (first["accuracy"]["rows"], first["accuracy"]["both"]) == (None, None)
    assert second["difference"]["values"] == pytest.approx([0.3, 0.3])


def test_an_evaluation_that_complains_in_the_end_counts(fake: Fake, said, tmp_path: Path) -> None:
    fake.plan(RIGHT, silent=[NAMES[0]])
    shown = said([*GRID, "--output", str(tmp_path / "sweep")])
    assert f"{NAMES[0]}: hops: the model emits nothing" in shown


def test_values_and_seeds_may_be_added(fake: Fake, said, tmp_path: Path) -> None:
    more = {f"learning_rate={rate},seed={seed}": 5 for rate in ("1e-3", "1e-2", "3e-3") for seed in (1, 2, 3)}
    fake.plan({**more, **RIGHT})
    folder = tmp_path / "sweep"
    said([*GRID, "--output", str(folder)])
    fake.calls()
    said(
        ["sweep", "quickstart", f"{RATE}=1e-3,1e-2,3e-3", "--seeds", "3", "--output", str(folder), "--resume"]
    )
    trained = [call.split()[1] for call in fake.calls() if call.startswith("train")]
    assert sorted(trained) == sorted(set(more) - set(NAMES))
    assert [line["settings"][RATE] for line in table(folder)["lines"]] == ["1e-3", "1e-2", "3e-3"]
    assert table(folder)["lines"][0]["accuracy"]["values"] == [0.5, 0.6, 0.25]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["sweep", "quickstart", f"{RATE}=1e-3", "--seeds", "2"],
            "point learning_rate=3e-3,seed=1 and 1 more is left out",
        ),
        (["sweep", "quickstart", f"{RATE}=1e-3,3e-3"], "seed 2 is left out"),
        ([*GRID, "training.batch_size=8"], "training.batch_size is new"),
        (
            ["sweep", "quickstart", "training.batch_size=8,16", "--seeds", "2"],
            f"{RATE}=1e-3,3e-3 is left out",
        ),
        (["sweep", "quickstart-text", *GRID[2:]], "recipe (quickstart -> quickstart-text)"),
        ([*GRID, "--smoke"], "smoke (False -> True)"),
        ([*GRID, "--limit", "7"], "--limit (None -> 7)"),
        ([*GRID, "--control", "shuffled"], "--control (none -> shuffled)"),
        ([*GRID, "--task", "gsm8k"], "--task hops is left out"),
        ([*GRID, "--no-evaluate"], "--task hops is left out"),
    ],
)
def test_another_sweep_is_no_resume(
    arguments: list[str], message: str, fake: Fake, said, tmp_path: Path
) -> None:
    write_sweep(plan_sweep("quickstart", GRID[2:3], 2, EvaluationChoice()), tmp_path)
    before = (tmp_path / "sweep.yaml").read_bytes()
    assert message in said([*arguments, "--output", str(tmp_path), "--resume"], 2)
    assert (tmp_path / "sweep.yaml").read_bytes() == before
    assert fake.calls() == []


def test_an_edited_recipe_is_no_resume(fake: Fake, said, tmp_path: Path) -> None:
    recipe, folder = tmp_path / "mine.yaml", tmp_path / "sweep"
    recipe.write_text("extends: quickstart-no-thought\ntraining: {batch_size: 8}\n")
    fake.plan(RIGHT)
    arguments = ["sweep", str(recipe), *GRID[2:], "--output", str(folder)]
    said(arguments)
    begun = load_recipe(recipe, [f"{RATE}=1e-3", "seed=1"])
    write_yaml(folder / "points" / NAMES[0] / "recipe.yaml", begun.dump())
    said([*arguments, "--resume"])
    recipe.write_text("extends: quickstart-no-thought\ntraining: {batch_size: 16}\n")
    shown = said([*arguments, "--resume"], 2)
    assert f"the recipe has changed since {NAMES[0]} began: training.batch_size (8 -> 16)" in shown


def test_a_baseline_is_compared_at_the_same_other_keys(fake: Fake, said, tmp_path: Path) -> None:
    names = {
        f"learning_rate={rate},batch_size={size},seed=1": right
        for (rate, size), right in zip(
            ((r, s) for r in ("1e-3", "3e-3") for s in (8, 16)), (4, 8, 10, 18), strict=True
        )
    }
    fake.plan(names)
    arguments = [
        "sweep",
        "quickstart",
        f"{RATE}=1e-3,3e-3",
        "training.batch_size=8,16",
        "--output",
        str(tmp_path / "s"),
    ]
    said([*arguments, "--baseline", "training.batch_size=16"])
    differences = [
        line["difference"] and line["difference"]["value"] for line in table(tmp_path / "s")["lines"]
    ]
    assert differences == [pytest.approx(-0.2), None, pytest.approx(-0.4), None]
    said([*arguments, "--resume"])
    differences = [
        line["difference"] and line["difference"]["value"] for line in table(tmp_path / "s")["lines"]
    ]
    assert differences == [None, pytest.approx(0.2), pytest.approx(0.3), pytest.approx(0.7)], (
        "from the first setting"
    )


# a shell that starts the tests in the background has its children ignore Ctrl-C
DRIVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import latentthought.sweeping.running as running
running.PROGRAM = {program!r}
from latentthought.cli import main
sys.exit(main({arguments!r}))
"""


def start(arguments: list[str], repository: Path) -> subprocess.Popen:
    """The sweep in a process of its own, which can be stopped."""
    code = DRIVER.format(program=PROGRAM, arguments=arguments)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path, sweep: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert sweep.poll() is None, sweep.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_stopped_sweep_lets_its_runs_save_themselves(
    number: signal.Signals, code: int, fake: Fake, said, tmp_path: Path, repository: Path
) -> None:
    fake.plan(RIGHT, slow=dict.fromkeys(NAMES[1:], 60))
    folder = tmp_path / "sweep"
    arguments = [*GRID, "--output", str(folder)]
    sweep = start([*arguments, "--jobs", "2"], repository)
    wait_for(folder / "points" / NAMES[2] / "begun", sweep)
    os.killpg(sweep.pid, number)  # as a terminal does: the sweep and all that shares its group
    shown, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == code, shown
    assert "1 of 4 points done" in shown
    assert "2 stopped" in shown
    assert "latentthought sweep quickstart training.learning_rate=1e-3,3e-3 --seeds 2" in shown
    assert "--resume" in shown
    assert (folder / "points" / NAMES[2] / "checkpoint-1").is_dir()
    assert not (folder / "points" / NAMES[3]).exists()
    assert {row["name"]: row["state"] for row in table(folder)["points"]} == dict(
        zip(NAMES, ("done", "stopped", "stopped", "waiting"), strict=True)
    )
    fake.calls()
    fake.plan()
    said([*arguments, "--resume"])
    assert [call for call in fake.calls() if call.startswith("train")] == [
        f"train {NAMES[1]} --resume",
        f"train {NAMES[2]} --resume",
        f"train {NAMES[3]}",
    ]


def test_a_killed_sweep_goes_on_and_waits_for_what_it_left_behind(
    fake: Fake, said, tmp_path: Path, repository: Path
) -> None:
    fake.plan(RIGHT, slow={NAMES[1]: 10})
    folder = tmp_path / "sweep"
    arguments = [*GRID, "--output", str(folder)]
    plan_sweep("quickstart", [], None, EvaluationChoice())  # imports all that the second sweep needs
    sweep = start(arguments, repository)
    wait_for(folder / "points" / NAMES[1] / "begun", sweep)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    fake.plan()
    said([*arguments, "--resume"])
    calls = fake.calls()
    assert calls.count(f"train {NAMES[1]}") == 1, "its run was still there, and was left to end"
    assert f"train {NAMES[1]} --resume" not in calls
    assert all(calls.count(f"evaluate {name} --task hops") == 1 for name in NAMES)
    assert "waiting for" in (folder / "points" / f"{NAMES[1]}.log").read_text()


def test_an_evaluation_that_a_killed_sweep_left_behind_is_waited_for(
    fake: Fake, said, tmp_path: Path
) -> None:
    fake.plan(RIGHT)
    folder = tmp_path / "sweep"
    said([*GRID, "--output", str(folder), "--no-evaluate"])
    fake.calls()
    results = folder / "points" / NAMES[1] / "results" / "hops" / "none"
    results.mkdir(parents=True)
    done: list[float] = []
    with (results / "samples.jsonl").open("ab") as samples:
        fcntl.flock(samples, fcntl.LOCK_EX)

        def end() -> None:
            done.append(time.monotonic())
            fcntl.flock(samples, fcntl.LOCK_UN)

        timer = threading.Timer(1.0, end)
        timer.start()
        said([*GRID, "--output", str(folder), "--resume"])
        timer.join()
    assert done and "waiting for an evaluation in" in (folder / "points" / f"{NAMES[1]}.log").read_text()
    calls = fake.calls()
    assert f"evaluate {NAMES[1]} --task hops --resume" in calls and len(calls) == 4


def test_jobs_share_the_cores_and_get_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    launcher = LocalLauncher(3, ["4", "6"], threads=5)
    environments = [launcher.environment(slot) for slot in range(3)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["4", "6", "4"]
    assert {environment["OMP_NUM_THREADS"] for environment in environments} == {"5"}
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert launcher.environment(0)["OMP_NUM_THREADS"] == "2", "less is left alone"
    assert LocalLauncher(1, [], threads=8).environment(0)["OMP_NUM_THREADS"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in LocalLauncher(1, [], threads=8).environment(0)


def test_two_sweeps_do_not_share_a_folder(fake: Fake, said, tmp_path: Path, repository: Path) -> None:
    fake.plan(RIGHT, slow=dict.fromkeys(NAMES, 60))
    folder = tmp_path / "sweep"
    sweep = start([*GRID, "--output", str(folder)], repository)
    try:
        wait_for(folder / "points" / NAMES[0] / "begun", sweep)
        assert "another run is writing to this folder" in said(
            [*GRID, "--output", str(folder), "--resume"], 2
        )
    finally:
        sweep.terminate()
        sweep.communicate(timeout=60)
    assert "is not empty" in said([*GRID, "--output", str(folder)], 2)


def test_without_matplotlib_the_table_stays(
    fake: Fake, said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.plan(RIGHT)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    shown = said([*GRID, "--output", str(tmp_path / "sweep")])
    assert "no figure: drawing figures needs matplotlib" in shown
    assert "latentthought[plot]" in shown
    assert (tmp_path / "sweep" / "table.md").is_file()


def test_a_dry_run_lists_the_points_and_writes_nothing(
    fake: Fake, said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = said([*GRID, "--smoke", "--dry-run"])
    assert [line.split()[0] for line in shown.splitlines()[:4]] == NAMES
    assert "4 points: 2 settings under 2 seeds" in shown
    assert "the first one takes" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["fake"]


def test_a_point_is_the_command_that_one_could_type(said, tmp_path: Path) -> None:
    """The same metrics as `train` with the same overrides, and the same accuracy as `evaluate`."""
    rate = "training.learning_rate=2e-3"
    alone, folder = tmp_path / "alone", tmp_path / "sweep"
    said(["sweep", "quickstart-no-thought", rate, "--smoke", "--limit", "8", "--output", str(folder)])
    said(["train", "quickstart-no-thought", rate, "seed=1", "--smoke", "--output", str(alone)])
    said(["evaluate", str(alone), "--task", "hops", "--limit", "8", "--max-new-tokens", "16", "--smoke"])
    point = folder / "points" / "seed=1"

    def metrics(run: Path) -> list[dict]:
        rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        return [{key: value for key, value in row.items() if key not in CLOCKED} for row in rows]

    assert len(metrics(point)) >= 2
    assert metrics(point) == metrics(alone)
    completions = [
        [
            json.loads(line)["completion"]
            for line in (run / "results/hops/none/samples.jsonl").read_text().splitlines()
        ]
        for run in (point, alone)
    ]
    assert completions[0] == completions[1]
    assert (point / "recipe.yaml").read_bytes() == (alone / "recipe.yaml").read_bytes()
    (line,) = table(folder)["lines"]
    last = metrics(alone)[-1]
    assert line["means"]["loss"] == last["loss"]
    assert line["accuracy"]["questions"] == 8
    said(
        [
            "sweep",
            "quickstart-no-thought",
            rate,
            "--smoke",
            "--limit",
            "8",
            "--output",
            str(folder),
            "--resume",
        ]
    )
