"""The wheel: built from a copy of the tree, installed elsewhere, used from another working directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOURCES = ("latentthought", "recipes", "evals", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Installed:
    """A wheel in a folder of its own; its dependencies are those of the running interpreter."""

    site: Path
    elsewhere: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        # a folder on PYTHONPATH is found before an editable install, whose finder comes last
        environment = {**os.environ, "PYTHONPATH": str(self.site)}
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.site / "bin" / "latentthought"), *arguments)


def _yaml_below(folder: Path, prefix: str) -> set[str]:
    return {f"{prefix}/{file.relative_to(folder).as_posix()}" for file in folder.rglob("*.yaml")}


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> Path:
    """By way of the source archive, as a package index would build it. A copy, since setuptools reuses an old build/."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(build, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installed:
    site, elsewhere = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        "--target",
        str(site),
        str(wheel),
    ]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Installed(site, elsewhere)


def test_the_wheel_holds_the_code_the_recipes_the_tasks_and_nothing_else(wheel, repository):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    held = {name for name in names if ".dist-info/" not in name}
    expected = {
        file.relative_to(repository).as_posix() for file in (repository / "latentthought").rglob("*.py")
    }
    expected.add("latentthought/training/measured.json")
    expected |= _yaml_below(repository / "recipes", "latentthought/recipes")
    expected |= _yaml_below(repository / "evals", "latentthought/evals")
    assert held == expected
    assert any(name.endswith("/LICENSE") for name in names - held)


def test_the_installed_package_is_the_one_that_runs(installed):
    done = installed.run("-c", "import latentthought; print(latentthought.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent == installed.site / "latentthought"


@pytest.mark.parametrize(("command", "folder"), [("recipes", "recipes"), ("tasks", "evals")])
def test_the_lists_are_those_of_the_checkout(installed, repository, command, folder):
    done = installed.command(command)
    assert done.returncode == 0, done.stderr
    listed = {
        line.split()[0] for line in done.stdout.splitlines() if line and not line.startswith("suites (")
    }
    # the suites are listed with the tasks; tasks in the form of lm-eval are files of another kind
    assert listed == {
        file.relative_to(repository / folder).with_suffix("").as_posix().removeprefix("suites/")
        for file in (repository / folder).rglob("*.yaml")
        if file.relative_to(repository / folder).parts[0] != "lm_eval"
    }


def test_a_recipe_runs_from_the_wheel(installed, tmp_path):
    output = tmp_path / "run"
    done = installed.command("train", "quickstart", "--smoke", "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (output / "recipe.yaml").is_file()
    assert list((output / "model").glob("*.safetensors"))
    last = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["loss"] > 0
    assert list(installed.elsewhere.iterdir()) == []
