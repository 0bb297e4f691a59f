"""A tiny trained run, made once by the command line itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentthought.cli import main


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a smoke run of the quickstart's recipe."""
    run = tmp_path_factory.mktemp("docs") / "run"
    assert main(["train", "quickstart", "--smoke", "--output", str(run)]) == 0
    return run
