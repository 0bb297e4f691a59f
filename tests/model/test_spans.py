"""Parts of a step: who hears them, in what order, and that nobody pays for what nobody hears."""

from __future__ import annotations

import threading
import timeit

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.model.spans import listening, span


class Heard:
    """Writes down what begins (`+part`) and ends (`-part`)."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def enter(self, part: str) -> None:
        self.lines.append(f"+{part}")

    def leave(self, part: str) -> None:
        self.lines.append(f"-{part}")

    @property
    def parts(self) -> list[str]:
        """Those that began, in order."""
        return [line[1:] for line in self.lines if line[0] == "+"]


@pytest.fixture(scope="module")
def model() -> LatentThoughtForCausalLM:
    torch.manual_seed(0)
    sizes = GPT2Config(vocab_size=40, n_layer=2, n_head=2, n_embd=16, n_positions=32)
    return LatentThoughtForCausalLM.from_base(GPT2LMHeadModel(sizes), ThoughtConfig(start_token=None)).train()


def step(model: LatentThoughtForCausalLM, thoughts: int, **options: object) -> torch.Tensor:
    """A forward over 5 columns, some thoughts and 3 more columns."""
    ids = torch.arange(2 * (8 + thoughts)).view(2, -1) % 40
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, 5 : 5 + thoughts] = True
    given = {"thought_mask": mask, "thought_columns": (5, 5 + thoughts)} if thoughts else {}
    return model(ids, labels=ids, **given, **options).loss


def test_parts_in_each_other_and_the_end_of_listening() -> None:
    heard = Heard()
    with listening(heard):
        with span("outer"), span("inner"):
            pass
        with pytest.raises(ValueError, match="x"), span("fails"):
            raise ValueError("x")
    with span("unheard"):
        pass
    assert heard.lines == ["+outer", "+inner", "-inner", "-outer", "+fails", "-fails"]


def test_an_error_ends_the_listening() -> None:
    heard = Heard()
    with pytest.raises(ValueError, match="x"), listening(heard):
        raise ValueError("x")
    with span("later"):
        pass
    assert heard.lines == []


def test_other_threads_do_not_listen() -> None:
    heard = Heard()

    def work() -> None:
        with span("elsewhere"):
            pass

    with listening(heard):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert heard.lines == []


@pytest.mark.parametrize(
    ("options", "thoughts", "expected"),
    [
        # S + 1 passes, the last of them with what follows; jacobi's first update is part of the prefix's
        ({}, 4, ["prefix", "thoughts", "thoughts", "thoughts", "rest", "head"]),
        ({}, 1, ["prefix", "rest", "head"]),
        (
            {"feedback": "jacobi", "jacobi_iterations": 2},
            4,
            ["prefix", "thoughts", "rest", "head"],
        ),
        ({"feedback": "single_pass"}, 4, ["prefix", "thoughts", "rest", "head"]),
        # the text pass that is asked for serves as the update
        ({"feedback": "single_pass", "text_states": True}, 4, ["prefix", "thoughts", "rest", "head"]),
        # more thoughts than prefix: nothing is shared
        ({"feedback": "single_pass"}, 5, ["thoughts", "rest", "head"]),
        ({"feedback": "single_pass", "text_states": True}, 5, ["thoughts", "rest", "head"]),
        ({}, 0, ["rest", "head"]),
    ],
)
def test_the_passes_of_each_method(model, options, thoughts, expected) -> None:
    heard = Heard()
    with listening(heard):
        step(model, thoughts, **options)
    outermost, depth = [], 0
    for line in heard.lines:
        if line[0] == "+":
            outermost += [] if depth else [line[1:]]
        depth += 1 if line[0] == "+" else -1
    assert outermost == expected


def test_what_backward_recomputes_is_no_part(model) -> None:
    heard = Heard()
    model.gradient_checkpointing_enable()
    try:
        with listening(heard):
            loss = step(model, 3)
            forward = list(heard.lines)
            loss.backward()
    finally:
        model.gradient_checkpointing_disable()
    assert heard.lines == forward and heard.parts == ["prefix", "thoughts", "thoughts", "rest", "head"]


def test_the_whole_chain_is_a_part_of_its_own(model) -> None:
    heard = Heard()
    ids = torch.arange(12).view(2, 6)
    with listening(heard):
        step(model, 2, reading={"input_ids": ids, "labels": ids})
    assert heard.lines[0] == "+chain" and "-chain" in heard.lines
    assert heard.lines[heard.lines.index("-chain") + 1] == "+prefix"


def test_without_a_listener_a_part_costs_nothing_to_speak_of(monkeypatch) -> None:
    from latentthought.model import spans

    # no object is made, and nobody is told
    assert span("prefix") is span("rest")
    monkeypatch.setattr(spans, "_told", None)
    with span("prefix"):
        pass

    def parts() -> None:
        with span("prefix"):
            pass

    # a pass of the smallest model takes milliseconds
    assert min(timeit.repeat(parts, number=1000, repeat=5)) / 1000 < 5e-6
