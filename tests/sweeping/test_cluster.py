"""Points as jobs of submitit, in processes of this machine."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from tests.sweeping.conftest import Fake
from tests.sweeping.test_sweep import GRID, NAMES, RIGHT, table

LOCAL = ["--launcher", "submitit", "--launcher-option", "cluster=local"]


def test_jobs_do_what_processes_do(fake: Fake, said, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    fake.plan(RIGHT, crash={NAMES[1]: "out of luck"})
    folder = tmp_path / "sweep"
    arguments = [*GRID, "--output", str(folder), *LOCAL]
    shown = said([*arguments, "--jobs", "2"], 1)
    assert f"{NAMES[1]} failed: out of luck" in shown
    assert [line["accuracy"]["values"] for line in table(folder)["lines"]] == [[0.5], [0.9, 0.95]]
    assert sorted(call for call in fake.calls() if call.startswith("train")) == [
        f"train {name}" for name in NAMES
    ]
    fake.plan()
    said([*arguments, "--resume"])
    assert [call for call in fake.calls() if call.startswith("train")] == [f"train {NAMES[1]}"]
    said([*GRID, "--output", str(folder), "--resume"])
    assert fake.calls() == [], "the launcher is no part of a sweep"


def test_a_job_that_is_lost_is_a_failure(
    fake: Fake, said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    from tests.sweeping.fake import Vanishing  # which reads the folder that the fixture names

    fake.plan(RIGHT)
    monkeypatch.setattr("latentthought.sweeping.cluster.PointJob", Vanishing)
    shown = said(["sweep", "quickstart", "--output", str(tmp_path / "sweep"), *LOCAL], 1)
    assert "was lost" in shown
    assert yaml.safe_load((tmp_path / "sweep/points/seed=1.yaml").read_text())["state"] == "failed"


def test_a_checkpoint_lets_the_run_save_itself_and_goes_on(fake: Fake, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    from latentthought.sweeping.cluster import PointJob
    from latentthought.sweeping.plan import EvaluationChoice, plan_sweep
    from latentthought.sweeping.running import works_of

    fake.plan({"seed=1": 7}, slow={"seed=1": 60})
    (work,) = works_of(plan_sweep("quickstart", [], None, EvaluationChoice()), tmp_path)
    job = PointJob(work)
    thread = threading.Thread(target=job)
    thread.start()
    while not (work.folder / "begun").exists():
        time.sleep(0.02)
    again = job.checkpoint()
    thread.join(30)
    assert not thread.is_alive()
    assert work.read().state == "stopped"
    assert (work.folder / "checkpoint-1").is_dir()
    fake.plan()
    again.function()
    assert work.finished
    assert "train seed=1 --resume" in fake.calls()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("colour=blue", "colour"),
        ("slurm_partitoin=gpu", "Unknown argument 'partitoin'"),
        ("cluster=moon", "moon"),
        ("timeout_min=long", "timeout_min"),
        ("timeout_min", "expected key=value"),
    ],
)
def test_an_option_that_it_does_not_know(option: str, message: str, fake: Fake, said, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    arguments = ["sweep", "quickstart", "--output", str(tmp_path / "sweep"), "--launcher", "submitit"]
    shown = said([*arguments, "--launcher-option", option], 2)
    assert shown.startswith("latentthought: error: --launcher-option")
    assert message in shown
    assert not (tmp_path / "sweep").exists()


def test_without_submitit(fake: Fake, said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    shown = said(["sweep", "quickstart", "--output", str(tmp_path / "sweep"), "--launcher", "submitit"], 2)
    assert "pip install 'latentthought[sweep]'" in shown
    assert not (tmp_path / "sweep").exists()
