"""Stands in for `python -m latentthought` in tests of sweeps: `train` and `evaluate` in no time, with the same files, exit codes
and manners (a lock on the folder, exit code 75 on SIGTERM), steered by `plan.json` in the folder that SWEEP_FAKE names:

    {"crash": {point: message}, "kill": [point], "slow": {point: seconds}, "right": {point: questions answered right}}

A line a call goes to `calls.txt`. Results are copied from `templates/RIGHT/`."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

HOME = Path(os.environ["SWEEP_FAKE"])
PLAN = json.loads((HOME / "plan.json").read_text())


def train(arguments: list[str]) -> int:
    folder = Path(arguments[arguments.index("--output") + 1])
    name = folder.name
    resumed = "--resume" in arguments
    note(f"train {name}{' --resume' if resumed else ''}")
    if name in PLAN.get("kill", []):
        os.kill(os.getpid(), signal.SIGKILL)
    if name in PLAN.get("crash", {}):
        print("Traceback (most recent call last):\n  ...\nValueError: not this", flush=True)
        print(f"latentthought: error: {PLAN['crash'][name]}")
        return 1
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if any(path.name != ".lock" for path in folder.iterdir()) and not resumed:
            print("latentthought: error: the folder is not empty")
            return 2
        (folder / "begun").touch()
        end = time.monotonic() + PLAN.get("slow", {}).get(name, 0)
        while time.monotonic() < end:
            time.sleep(0.02)
            if stop:
                (folder / "checkpoint-1").mkdir(exist_ok=True)
                return 75
        score = PLAN.get("validation", {}).get(name)
        row = {"step": 4, "stage": "s", "loss": 0.5, "tokens_per_second": 100.0}
        row |= {"validation_accuracy": score} if score is not None else {}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        (folder / "model").mkdir()
    return 0


def evaluate(arguments: list[str]) -> int:
    folder = Path(arguments[0])
    note(f"evaluate {folder.name} {' '.join(arguments[1:])}")
    task = arguments[arguments.index("--task") + 1]
    shutil.copytree(
        HOME / "templates" / str(PLAN["right"][folder.name]),
        folder / "results" / task / "none",
        dirs_exist_ok=True,
    )
    (folder / "results" / task / "report.md").write_text("")
    if folder.name in PLAN.get("silent", []):
        print("latentthought: error: hops: the model emits nothing")
        return 2
    return 0


class Vanishing:
    """A job of a cluster that ends without a word."""

    def __init__(self, work: object) -> None:
        self.work = work

    def __call__(self) -> None:
        os._exit(3)


def note(text: str) -> None:
    with (HOME / "calls.txt").open("a") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    sys.exit({"train": train, "evaluate": evaluate}[sys.argv[1]](sys.argv[2:]))
