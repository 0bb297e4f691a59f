"""A pool in every kind of program that has one, and what is left of it when that ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import latentthought
from tests.grading.workers.test_pool import HANG_GUARD, gone

USE = """
from latentthought.grading import GradePolicy
from latentthought.grading.workers.pool import GradingPool
pool = GradingPool(workers=1)
print([verdict.status for verdict in pool.grade_many([("5", "5"), ("6", "5")])], pool.grade("7", "7").reason)
"""
FINE = "['correct', 'wrong'] same text"


def python(*arguments: str, **options) -> str:
    options = {"capture_output": True, "text": True, "timeout": HANG_GUARD, **options}
    done = subprocess.run([sys.executable, *arguments], **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_program_from_standard_input(tmp_path: Path) -> None:
    assert python("-", input=USE, cwd=tmp_path) == FINE


def test_an_unguarded_script_in_a_folder_that_shadows_modules(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('once')\n" + USE)
    for name in ("random", "numbers", "types"):
        (tmp_path / f"{name}_.py").write_text("")
    (tmp_path / "fractions.py").write_text("raise SystemExit('shadowed')\n")
    code = "import sys; sys.path.remove(''); " + f"exec(open({str(tmp_path / 'script.py')!r}).read())"
    assert python("-c", code, cwd=tmp_path) == "once\n" + FINE


def test_a_checkout_that_is_not_installed(tmp_path: Path) -> None:
    shutil.copytree(Path(latentthought.__file__).parent, tmp_path / "checkout" / "latentthought")
    copied = tmp_path / "checkout" / "latentthought" / "grading" / "equivalence" / "ladder.py"
    copied.write_text(copied.read_text().replace("same text", "same text, says the copy"))
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'checkout')!r})\n" + USE
    assert python("-c", code, cwd="/") == FINE + ", says the copy"


def test_what_prints_when_python_starts_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif '-m' in sys.orig_argv: print('{hello', end='')\n"
    )
    assert python("-c", USE, env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONINSPECT": ""}) == FINE


ENDS: dict[str, str] = {
    "by itself": "",
    "by sys.exit": "sys.exit(0)",
    "in a thread": "threading.Thread(target=pool.grade, args=('1', '1')).start()",
    "with a daemon waiting": (
        "os.kill(pool._idle[0].process.pid, 19)\n"
        "threading.Thread(target=pool.grade, args=('1', '1'), daemon=True).start(); time.sleep(0.3)"
    ),
    "killed": "sys.stdout.flush(); os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("how", ENDS)
def test_workers_end_with_the_program(how: str) -> None:
    code = """
        import os, sys, threading, time
        from latentthought.grading.workers.pool import GradingPool
        pool = GradingPool(workers=2)
        pool.grade_many([('1', '2'), ('3', '4')])
        print(*[worker.process.pid for worker in pool._all])
    """
    program = textwrap.dedent(code) + ENDS[how] + "\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG_GUARD)
    assert done.returncode == (-9 if how == "killed" else 0), done.stderr
    assert done.stderr == ""
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_a_hanging_worker_does_not_outlive_a_killed_parent() -> None:
    pytest.importorskip("math_verify")
    code = """
        import os, sys, threading, time
        from latentthought.grading.workers.pool import GradingPool
        pool = GradingPool(workers=1, deadline=1.0)
        pool.compare("1", "1")
        print(pool._idle[0].process.pid, flush=True)
        threading.Thread(target=pool.compare, args=("9^{9^{9^9}}", "1")).start()
        time.sleep(0.3)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=HANG_GUARD
    )
    assert gone(int(done.stdout))
