"""A tiny trained run, made once by the command line itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentthought.cli import main


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a smoke run of the quickstart's recipe, with results of one evaluation in it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "quickstart", "--smoke", "--output", str(run)]) == 0
    assert (
        main(
            [
                "evaluate",
                str(run),
                "--task",
                "hops",
                "--smoke",
                "--limit",
                "8",
                "--max-new-tokens",
                "6",
                "--control",
                "all",
            ]
        )
        == 0
    )
    return run
