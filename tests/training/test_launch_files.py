"""The files of docs/launch, and the commands of docs/launching.md: what can be run without a cluster is run."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from latentthought.cli import train
from latentthought.cli.parser import Parser
from latentthought.config import write_yaml
from latentthought.resources import find_recipe

# in place of torchrun: one process, which on SIGUSR1 "saves itself" and leaves with 75, and of which a failure makes 1
LAUNCHER = """#!{python}
import os, pathlib, signal, subprocess, sys, time
state = pathlib.Path(os.environ["STATE"])
if "worker" not in sys.argv:
    (state / "arguments").write_text("\\n".join(sys.argv[1:]))
    mode = os.environ["MODE"]
    if mode != "wait":
        sys.exit(int(mode))
    for number in (signal.SIGTERM, signal.SIGUSR1):
        assert signal.getsignal(number) == signal.SIG_IGN, "a launcher that hears it ends its processes"
    sys.exit(1 if subprocess.call([sys.executable, __file__, "worker"], start_new_session=True) else 0)
def told(*_):
    (state / "saved").touch()
    sys.exit(75)
signal.signal(signal.SIGUSR1, told)
(state / f"ready-{{os.getpid()}}").touch()
time.sleep(60)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """The environment of a script that is to meet stand-ins: PYTHON is the launcher."""
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "python"
    launcher.write_text(LAUNCHER.format(python=sys.executable))
    launcher.chmod(0o755)
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHON": str(launcher),
        "STATE": str(tmp_path),
        "MODE": "wait",
    }


def started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE)


def wait_for(folder: Path, pattern: str, count: int = 1) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.glob(pattern))) < count:
        assert time.monotonic() < deadline, f"{pattern} never came"
        time.sleep(0.05)


@pytest.fixture
def launch(repository: Path) -> Path:
    return repository / "docs" / "launch"


@pytest.mark.parametrize("name", ["run.sh", "slurm.sh"])
def test_scripts_are_bash(launch: Path, name: str) -> None:
    assert subprocess.run(["bash", "-n", str(launch / name)], check=False).returncode == 0
    assert os.access(launch / name, os.X_OK)


@pytest.mark.parametrize(("mode", "code"), [("0", 0), ("1", 1), ("2", 2)])
def test_run_sh_passes_on_how_it_ended(
    launch: Path, tmp_path: Path, stand_in: dict[str, str], mode: str, code: int
) -> None:
    output = tmp_path / "runs" / "mine"
    command = [str(launch / "run.sh"), str(output), "quickstart", "engine=zero2"]
    done = subprocess.run(
        command,
        env={**stand_in, "MODE": mode, "NNODES": "2", "RDZV_ENDPOINT": "a:1", "LOCAL_ADDR": "10.0.0.1"},
        check=False,
    )
    assert done.returncode == code
    assert output.is_dir()
    launcher = (tmp_path / "arguments").read_text().split("\n")
    assert launcher[:2] == ["-m", "torch.distributed.run"]
    read = torchrun(launcher[2:])
    assert (read.nnodes, read.rdzv_endpoint, read.rdzv_backend, read.local_addr) == (
        "2",
        "a:1",
        "c10d",
        "10.0.0.1",
    )
    assert read.training_script_args == [
        "train",
        "quickstart",
        "engine=zero2",
        "--output",
        str(output),
        "--resume",
    ]
    assert our_part(read.training_script_args)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_run_sh_hands_a_signal_on_and_says_75(
    launch: Path, tmp_path: Path, stand_in: dict[str, str], number: signal.Signals
) -> None:
    run = started([str(launch / "run.sh"), str(tmp_path / "run"), "quickstart"], stand_in)
    wait_for(tmp_path, "ready-*")
    run.send_signal(number)
    assert run.wait(30) == 75
    assert (tmp_path / "saved").is_file()


def test_run_sh_with_another_code_and_at_the_end(
    launch: Path, tmp_path: Path, stand_in: dict[str, str]
) -> None:
    """Told to stop: the code that was asked for; told when it was finished: 0."""
    for code, finished in ((138, False), (0, True)):
        for file in (*tmp_path.glob("ready-*"), *tmp_path.glob("saved")):
            file.unlink()
        if finished:
            (tmp_path / "run" / "model").mkdir(parents=True)
        run = started(
            [str(launch / "run.sh"), str(tmp_path / "run"), "quickstart"],
            {**stand_in, "PREEMPTED_CODE": "138"},
        )
        wait_for(tmp_path, "ready-*")
        run.terminate()
        assert run.wait(30) == code


def test_run_sh_refuses_what_it_cannot_do(launch: Path, tmp_path: Path, stand_in: dict[str, str]) -> None:
    for arguments, environment, said in (
        (["out"], {}, "usage"),
        ([str(tmp_path / "out"), "quickstart"], {"NNODES": "2"}, "RDZV_ENDPOINT"),
    ):
        done = subprocess.run(
            [str(launch / "run.sh"), *arguments],
            env={**stand_in, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert said in done.stderr


@pytest.mark.parametrize("restarts", ["0", "100"])
def test_slurm_sh_goes_back_into_the_queue(
    launch: Path, tmp_path: Path, stand_in: dict[str, str], restarts: str
) -> None:
    """`srun` starts two tasks here and leaves the highest code; both are told, as Slurm tells all processes of a step."""
    (tmp_path / "bin" / "srun").write_text(
        '#!/bin/bash\n[[ $1 == --* ]] && shift\n"$@" & one=$!\n"$@" & two=$!\n'
        "echo $one $two > $STATE/tasks\nwait $one; a=$?\nwait $two; b=$?\nexit $((a > b ? a : b))\n"
    )
    (tmp_path / "bin" / "scontrol").write_text(
        '#!/bin/bash\n[ "$1" = show ] && { echo host-a; echo host-b; exit; }\necho "$@" > $STATE/scontrol\n'
    )
    for name in ("srun", "scontrol"):
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "x",
        "SLURM_JOB_NODELIST": "host-[a-b]",
        "SLURM_NNODES": "2",
        "SLURM_RESTART_COUNT": restarts,
        "LAUNCH_DIR": str(launch),
        "RECIPE": "quickstart",
        "OUTPUT": str(tmp_path / "run"),
    }
    job = started([str(launch / "slurm.sh")], {**stand_in, **slurm})
    wait_for(tmp_path, "ready-*", 2)
    read = torchrun((tmp_path / "arguments").read_text().split("\n")[2:])
    assert (read.rdzv_endpoint, read.rdzv_id, read.nnodes) == ("host-a:29500", f"7-{restarts}", "2")
    for task in (tmp_path / "tasks").read_text().split():
        os.kill(int(task), signal.SIGUSR1)
    assert job.wait(30) == 75
    asked = tmp_path / "scontrol"
    assert asked.exists() is (restarts == "0")
    if asked.exists():
        assert asked.read_text().split() == ["requeue", "7"]


def test_slurm_sh_leaves_a_failure(launch: Path, tmp_path: Path, stand_in: dict[str, str]) -> None:
    (tmp_path / "bin" / "srun").write_text("#!/bin/bash\nexit 1\n")
    (tmp_path / "bin" / "scontrol").write_text('#!/bin/bash\n[ "$1" = show ] || touch $STATE/scontrol\n')
    for name in ("srun", "scontrol"):
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "x",
        "SLURM_JOB_NODELIST": "a",
        "SLURM_NNODES": "1",
        "SLURM_SUBMIT_DIR": "x",
        "HOME": str(tmp_path),
    }
    done = subprocess.run([str(launch / "slurm.sh")], env={**stand_in, **slurm}, check=False)
    assert done.returncode == 1
    assert not (tmp_path / "scontrol").exists()


def test_the_manifest(launch: Path) -> None:
    job = yaml.safe_load((launch / "pytorchjob.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    hosts = 0
    for role in ("Master", "Worker"):
        assert replicas[role]["restartPolicy"] == "OnFailure"
        hosts += replicas[role]["replicas"]
        [container] = replicas[role]["template"]["spec"]["containers"]
        assert container["name"] == "pytorch"
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        [line] = container["args"]
        words = shlex.split(line)
        at = words.index("docs/launch/run.sh")
        assert words[at - 1] == "exec"
        our_part(["train", *words[at + 2 :], "--output", words[at + 1], "--resume"])
    assert environment["NNODES"] == str(hosts)


def test_the_hostfile(launch: Path) -> None:
    runner = pytest.importorskip("deepspeed.launcher.runner")
    assert runner.fetch_hostfile(str(launch / "hostfile")) == {"host-a": 8, "host-b": 8}


def torchrun(arguments: list[str]) -> Any:
    from torch.distributed.run import get_args_parser

    return get_args_parser().parse_args(arguments)


def our_part(arguments: list[str]) -> Any:
    """`train ...` as our own parser reads it; its recipe exists."""
    assert arguments[0] == "train"
    parser = Parser("train", train.DESCRIPTION)
    train.add_arguments(parser)
    read = parser.read(arguments[1:])
    assert find_recipe(read.recipe).is_file()
    return read


def test_commands_of_the_page_are_read_by_their_launchers(repository: Path) -> None:
    from accelerate.commands.launch import launch_command_parser

    text = (repository / "docs" / "launching.md").read_text(encoding="utf-8")
    seen: dict[str, int] = {}
    for block in re.findall(r"```\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            if program == "torchrun":
                read = torchrun(arguments)
                ours = read.training_script_args
                assert (read.module, read.training_script) == (True, "latentthought")
            elif program == "accelerate":
                read = launch_command_parser().parse_args(arguments[1:])
                ours = read.training_script_args
                assert (read.module, read.training_script) == (True, "latentthought")
            elif program == "deepspeed":
                at = arguments.index("--module")
                assert arguments[at + 1] == "latentthought"
                ours = arguments[at + 2 :]
            else:
                assert program == "docs/launch/run.sh"
                ours = ["train", *arguments[1:], "--output", arguments[0], "--resume"]
            our_part(ours)
            seen[program] = seen.get(program, 0) + 1
    assert seen == {"torchrun": 2, "accelerate": 2, "deepspeed": 2, "docs/launch/run.sh": 1}


@pytest.mark.slow
def test_run_sh_stops_and_goes_on_under_torchrun(
    launch: Path, repository: Path, tmp_path: Path, make_recipe: Callable[..., Any]
) -> None:
    recipe = make_recipe(
        curriculum={"method": "none", "max_latent_steps": None, "replay": 0.0, "each": {"steps": 80}},
        training={"log_every": 1, "save_every": 0},
    )
    write_yaml(tmp_path / "r.yaml", recipe.dump())
    output = tmp_path / "run"
    command = [str(launch / "run.sh"), str(output), str(tmp_path / "r.yaml")]
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "NPROC_PER_NODE": "2",
        "PYTHONPATH": str(repository),
    }
    run = started(command, environment)
    deadline = time.monotonic() + 300
    while run.poll() is None and not (
        (output / "metrics.jsonl").is_file() and (output / "metrics.jsonl").stat().st_size
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    run.terminate()
    _, said = run.communicate(timeout=120)
    assert run.returncode == 75, said[-2000:]
    assert list(output.glob("checkpoint-*"))
    assert not (output / "model").exists()
    assert subprocess.run(command, env=environment, check=False, timeout=300).returncode == 0
    assert (output / "model" / "config.json").is_file()
