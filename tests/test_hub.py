"""The question whether the hub is there is asked once, quickly, and answered in words."""

from __future__ import annotations

import time

import pytest

from latentthought import hub


@pytest.fixture(autouse=True)
def _nothing_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    hub._answers.cache_clear()


def test_a_switch_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    assert hub.offline_reason() == "TRANSFORMERS_OFFLINE is set"


def test_a_probe_that_hangs_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*args: object, **kwargs: object) -> None:
        time.sleep(1)
        raise OSError

    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(hub.urllib.request, "urlopen", hang)
    start = time.monotonic()
    assert "no answer" in str(hub.offline_reason())
    assert time.monotonic() - start < 0.9


def test_a_refusal_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise hub.urllib.error.HTTPError("there", 403, "no", None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(hub.urllib.request, "urlopen", refuse)
    assert hub.offline_reason() is None


def test_cache_only_is_undone() -> None:
    import huggingface_hub.constants as constants

    before = constants.HF_HUB_OFFLINE
    with hub.cache_only():
        assert constants.HF_HUB_OFFLINE is True
    with hub.cache_only(False):
        assert constants.HF_HUB_OFFLINE is before
    assert constants.HF_HUB_OFFLINE is before
