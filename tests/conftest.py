"""What every test needs: no network, one thread, and the folder of real data where there is one."""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import os
import sys
from pathlib import Path

import pytest

# before anything imports them: the hub takes half a minute to fail, threads fight over two cores, matplotlib wants a display
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "agg"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the complete matrices too (make test-full)")
    parser.addoption(
        "--write-combinations",
        action="store_true",
        help="with --full: write docs/combinations.md from what passes",
    )


_PASSED: list[list] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    from tests.training.combinations import PROPERTY

    if report.when == "call" and report.passed:
        _PASSED.extend(value for name, value in report.user_properties if name == PROPERTY)


def pytest_sessionfinish(session: pytest.Session) -> None:
    # the workers of xdist hand their reports to the process that started them
    if not session.config.getoption("--write-combinations") or hasattr(session.config, "workerinput"):
        return
    from tests.training.combinations import write_table

    write_table(_PASSED, f"{datetime.date.today()}, torch {importlib.metadata.version('torch')}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """OMP_NUM_THREADS is read when torch loads; a test that changed the number must not slow the next one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _modules_are_no_garbage() -> None:
    """What the libraries have loaded stays for good; accelerate looks through it at the end of every training, for a third of a
    second, as long as the training itself takes."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data; skips the test when LATENTTHOUGHT_DATA is unset."""
    named = os.environ.get("LATENTTHOUGHT_DATA")
    if not named:
        pytest.skip("needs real data: LATENTTHOUGHT_DATA is unset")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"LATENTTHOUGHT_DATA names no folder: {folder}")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent
