"""What an import costs, and that optional libraries are optional. Asked of fresh interpreters, without a clock."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "peft",
    "matplotlib",
    "pandas",
    "pyarrow",
    "sympy",
    "deepspeed",
)
OPTIONAL = (
    "peft",
    "bitsandbytes",
    "deepspeed",
    "torchao",
    "transformer_engine",
    "lm_eval",
    "math_verify",
    "matplotlib",
    "submitit",
    "tensorboard",
    "wandb",
)

SHOW_LOADED = "import json, sys; print(json.dumps(sorted(m for m in {names!r} if m in sys.modules)))"
RUN_HELP = """
import contextlib, io
from latentthought.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
        code = main({arguments!r})
    except SystemExit as stop:
        code = stop.code
assert code in (0, None), code
assert out.getvalue().strip()
"""


def loaded_after(code: str, repository) -> list[str]:
    """Names of the heavy modules that a fresh interpreter holds after running `code`."""
    script = code + "\n" + SHOW_LOADED.format(names=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "module", ["latentthought", "latentthought.cli", "latentthought.resources", "latentthought.config"]
)
def test_import_loads_no_heavy_library(module, repository):
    assert loaded_after(f"import {module}", repository) == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["generate", "--help"], ["recipes"], ["tasks"]]
)
def test_help_and_lists_load_no_heavy_library(arguments, repository):
    assert loaded_after(RUN_HELP.format(arguments=arguments), repository) == []


def test_grading_needs_no_torch(repository):
    assert "torch" not in loaded_after("import latentthought.grading", repository)


def test_every_module_imports_without_the_optional_libraries(repository):
    code = f"""
import importlib, pkgutil, sys
for name in {OPTIONAL!r}:
    sys.modules[name] = None  # as if it were not installed
import latentthought
for module in pkgutil.walk_packages(latentthought.__path__, "latentthought."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
