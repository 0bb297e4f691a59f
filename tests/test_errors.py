"""The error family: ordinary Python errors with exit codes and near misses."""

from __future__ import annotations

import pytest

from latentthought import errors


@pytest.mark.parametrize(
    ("error", "builtin", "exit_code"),
    [
        (errors.ConfigError, ValueError, 2),
        (errors.DataError, ValueError, 2),
        (errors.NotFoundError, LookupError, 2),
        (errors.MissingFileError, FileNotFoundError, 2),
        (errors.FolderInUseError, FileExistsError, 2),
        (errors.HubUnreachableError, ConnectionError, 2),
        (errors.MissingExtraError, ImportError, 2),
        (errors.UnsupportedError, NotImplementedError, 2),
        (errors.DamagedFileError, OSError, 1),
        (errors.Preempted, errors.LatentThoughtError, 75),
    ],
)
def test_every_error_is_also_a_builtin_and_says_its_message(error, builtin, exit_code):
    raised = error("what, where, and what is allowed")
    assert isinstance(raised, builtin)
    assert isinstance(raised, errors.LatentThoughtError)
    assert isinstance(raised, errors.UserError) == (exit_code == 2)
    assert raised.exit_code == exit_code
    assert str(raised) == "what, where, and what is allowed"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("quikstart", ["quickstart"]),
        ("QUICKSTART", ["quickstart"]),
        ("prosqa", ["coconut-prosqa-gpt2"]),
        ("zzz", []),
        ("", []),
    ],
)
def test_nearest(name, found):
    assert errors.nearest(name, ["quickstart", "coconut-gsm8k", "coconut-prosqa-gpt2"]) == found


def test_nearest_comes_best_first():
    assert errors.nearest("cocnut-gsm8k", ["coconut-prosqa", "coconut-gsm8k"])[0] == "coconut-gsm8k"


def test_nearest_keeps_the_spelling_of_known_names_and_the_count():
    assert errors.nearest("modelone", ["ModelOne", "ModelTwo"], 1) == ["ModelOne"]


def test_unknown_names_the_near_miss_and_everything_known():
    message = errors.unknown("task", "gsm8", ["math", "gsm8k"])
    assert message == "unknown task 'gsm8'. Did you mean gsm8k? Known: gsm8k, math."
    assert errors.unknown("task", "x", []) == "unknown task 'x'. Known: none."


def test_require_extra_returns_the_module():
    import json

    assert errors.require_extra("json", "plot", "plotting") is json


def test_require_extra_names_the_extra():
    with pytest.raises(
        errors.MissingExtraError, match=r"plotting needs no_such_module.*latentthought\[plot\]"
    ):
        errors.require_extra("no_such_module.part", "plot", "plotting")


def test_require_extra_takes_any_failure_of_the_import(tmp_path, monkeypatch):
    """transformer-engine without its CUDA library raises RuntimeError, not ImportError."""
    (tmp_path / "broken_extra_library.py").write_text("raise RuntimeError('no CUDA library')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(errors.MissingExtraError, match=r"no CUDA library.*latentthought\[te\]"):
        errors.require_extra("broken_extra_library", "te", "fp8 training")
