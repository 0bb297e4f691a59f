"""lm-evaluation-harness: our tasks and our command against our own runner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from latentthought.cli import main
from latentthought.data.encoding import Encoder, FormatConfig
from latentthought.data.example import ExampleSet
from latentthought.errors import UnsupportedError
from latentthought.evaluation import evaluate, load_task
from latentthought.evaluation.harness.arguments import open_model
from latentthought.resources import list_tasks, lm_eval_folder
from tests.evaluation.conftest import small_model

pytest.importorskip("lm_eval", reason="needs lm-eval: pip install 'latentthought[eval]'")
# what lm-eval and the libraries below it use is not in our hands
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module", autouse=True)
def _its_own_tasks_are_read_once() -> Iterator[None]:
    """lm-eval reads its thousands of files anew for every task manager, which takes ten seconds."""
    from lm_eval.tasks import _index

    read = cache(_index.load_yaml)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_index, "load_yaml", lambda path, **options: deepcopy(read(path, **options)))
        yield


def test_our_tasks_are_the_same_in_both_forms() -> None:
    """Name, version, length and metrics; rows, prompts and verdicts are the same code."""
    folder = lm_eval_folder()
    shared = (folder / "_shared.yaml").read_text()
    for name in ("rows", "score"):
        assert f"!function latentthought.evaluation.harness.tasks.{name}\n" in shared
    assert {file.stem for file in folder.glob("*.yaml")} - {"_shared"} == set(_own_tasks())
    for name in _own_tasks():
        ours, theirs = load_task(name), yaml.safe_load((folder / f"{name}.yaml").read_text())
        assert theirs["task"] == f"latentthought_{name}"
        assert theirs["dataset_kwargs"] == {"task": name}
        assert theirs["metadata"] == {"version": ours.version}
        assert not ours.few_shot.wanted
        assert theirs["generation_kwargs"] == {
            "until": list(ours.stop or ()),
            "do_sample": False,
            "max_gen_toks": ours.max_new_tokens,
        }
        assert [entry["metric"] for entry in theirs["metric_list"]] == [
            m for m in ours.metrics if "@" not in m
        ]
        assert theirs["include"] == "_shared.yaml"


def _own_tasks() -> list[str]:
    """Tasks at the top of evals/, without the template for one's own file, which has no rows of its own."""
    return [name for name in list_tasks() if "/" not in name and name != "file"]


def test_rows_and_scores_are_those_of_the_task(rows: ExampleSet, tmp_path: Path) -> None:
    from latentthought.evaluation.harness.tasks import rows as rows_of
    from latentthought.evaluation.harness.tasks import score

    file = tmp_path / "aqua.jsonl"
    file.write_text(
        json.dumps(
            {"question": "1 + 1?", "options": ["A)1", "B)2"], "rationale": "One and one.", "correct": "B"}
        )
        + "\n"
    )
    (doc,) = rows_of("aqua", data=str(file), version=1, config_source="x")["test"]
    assert doc["prompt"].startswith("1 + 1?\nAnswer choices:\nA) 1\nB) 2\nThink step by step")
    assert score(doc, ["The answer is B"]) == {"accuracy": 1.0}
    assert score(doc, ["The answer is 2"]) == {"accuracy": 1.0}
    assert score(doc, ["The answer is (A)"]) == {"accuracy": 0.0}
    (doc,) = rows_of("aqua", data=str(file), prompt_format={"prompt": "Q {question}"}, thought_ends=["<e>"])[
        "test"
    ]
    assert doc["prompt"] == "Q 1 + 1?\nAnswer choices:\nA) 1\nB) 2"
    assert score(doc, ["The answer is B<e>The answer is A"]) == {"accuracy": 0.0}


@pytest.mark.parametrize("name", ["hops", "prosqa"])
def test_steps_and_clues_travel_with_the_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consistency in lm-eval is that of our own judge: a made-up way to the right answer is seen."""
    from latentthought.data.example import Example
    from latentthought.evaluation import tasks
    from latentthought.evaluation.harness.tasks import rows as rows_of
    from latentthought.evaluation.harness.tasks import score

    load = tasks.load_examples
    monkeypatch.setattr(tasks, "load_examples", lambda config, **_: load(config.replace(limit=4), smoke=True))
    docs = rows_of(name)["test"]
    declared = {
        entry["metric"]
        for entry in yaml.safe_load((lm_eval_folder() / f"{name}.yaml").read_text())["metric_list"]
    }
    assert declared == {"accuracy", "consistency"}
    for doc in docs:
        row = Example.from_row(json.loads(doc["row"]), "here")
        assert row.steps
        way = "\n".join(row.steps)
        assert score(doc, [f"{way}\n### {doc['answer']}"]) == {"accuracy": 1.0, "consistency": 1.0}
        wrong = (
            "Every zumpus is a zumpus." if name == "prosqa" else f"{doc['question'][0]} {doc['question'][0]}"
        )
        assert score(doc, [f"{wrong}\n### {doc['answer']}"]) == {"accuracy": 1.0, "consistency": 0.0}
        assert score(doc, [""]) == {"accuracy": 0.0, "consistency": 0.0}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("few_shot: {count: 2}", "task sums: its few_shot examples are not carried over to lm-eval"),
        ("chat: true", "task sums: lm-eval applies chat templates itself.*--apply_chat_template"),
        ("default_format: {chat: true}", "lm-eval applies chat templates itself"),
        ("format: {chat: true}", "lm-eval applies chat templates itself"),
    ],
)
def test_what_lm_eval_would_prompt_otherwise_is_refused(
    more: str, message: str, local_task: Path, tmp_path: Path
) -> None:
    from latentthought.evaluation.harness.tasks import rows as rows_of

    file = tmp_path / "sums.yaml"
    file.write_text((local_task / "sums.yaml").read_text() + more + "\n")
    with pytest.raises(UnsupportedError, match=message):
        rows_of(str(file))
    chat = {"chat": True}
    if more != "default_format: {chat: true}":
        with pytest.raises(UnsupportedError, match=message):
            rows_of(str(file), prompt_format=chat)
    assert len(rows_of(str(local_task / "sums.yaml"), prompt_format=chat)["test"]) == 10


def test_a_forgotten_chat_template_is_said_once(wrapped, tokenizer, monkeypatch, caplog) -> None:
    wrapped.model.config.prompt_format = {"chat": True}
    asked = [SimpleNamespace(args=("1 + 1", {"max_gen_toks": 1}))]
    for _ in range(2):
        wrapped.generate_until(asked, disable_tqdm=True)
    assert caplog.text.count("give --apply_chat_template") == 1


@pytest.fixture(scope="session")
def local_task(tmp_path_factory: pytest.TempPathFactory, rows: ExampleSet) -> Path:
    """A folder: rows.jsonl, and a task of ours over it in both forms."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "rows.jsonl").write_text(
        "".join(
            json.dumps({"question": row.question, "answer": f"So. #### {row.answer}"}) + "\n" for row in rows
        )
    )
    (folder / "sums.yaml").write_text(
        f"name: sums\nversion: 1\ndata: {{source: gsm8k, split: test, path: {folder / 'rows.jsonl'}}}\nmax_new_tokens: 5\n"
    )
    (folder / "harness").mkdir()
    (folder / "harness" / "sums.yaml").write_text(
        f"include: {lm_eval_folder() / '_shared.yaml'}\ntask: my_sums\ndataset_kwargs: {{task: {folder / 'sums.yaml'}}}\n"
        "generation_kwargs: {until: [], do_sample: false, max_gen_toks: 5}\n"
        "metric_list: [{metric: accuracy, aggregation: mean, higher_is_better: true}]\n"
    )
    return folder


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any, rows: ExampleSet) -> Path:
    """A latent model that was shown eight of the ten sums, saved with the format that its prompts had."""
    model = small_model(tokenizer)
    form = FormatConfig(prompt="{question}\n\n")
    thought = model.thought
    inside = [thought.start_token_id, *[thought.thought_token_id] * 2, thought.end_token_id]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for _ in range(30):
        for row in Encoder(tokenizer, form, spans=False).encode_all(rows[:8]):
            ids = torch.tensor([[*row.prompt, *inside, *row.answer]])
            mask = (ids == thought.thought_token_id) & (torch.arange(ids.shape[1]) > len(row.prompt))
            labels = ids.masked_fill(torch.arange(ids.shape[1]) < len(row.prompt) + len(inside), -100)
            model(ids, thought_mask=mask, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.config.prompt_format = form.dump()
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("thoughts", [None, 0])
def test_the_command_agrees_with_our_own_runner(
    saved_model: Path, local_task: Path, tmp_path: Path, thoughts: int | None, capsys: pytest.CaptureFixture
) -> None:
    """One saved latent model, one local file, prompts as trained: the same completions and the same accuracy."""
    own = evaluate(
        AutoModelForCausalLM.from_pretrained(saved_model),
        local_task / "sums.yaml",
        thoughts=thoughts,
        output=tmp_path / "own",
        progress=False,
    )
    arguments = f"pretrained={saved_model}" + ("" if thoughts is None else f",thoughts={thoughts}")
    harness = ["--include_path", str(local_task / "harness"), "--tasks", "my_sums"]
    kept = ["--log_samples", "--output_path", str(tmp_path / "theirs")]
    code = main(
        ["lm-eval", "--model_args", arguments, *harness, *kept, "--device", "cpu", "--batch_size", "4"]
    )
    assert code == 0, capsys.readouterr().err
    (results,) = (tmp_path / "theirs").rglob("results_*.json")
    (logged,) = (tmp_path / "theirs").rglob("samples_my_sums_*.jsonl")
    samples = [json.loads(line) for line in logged.read_text().splitlines()]
    lines = (tmp_path / "own" / "results" / "sums" / "none" / "samples.jsonl").read_text().splitlines()
    written = {sample["id"]: sample["completion"] for sample in map(json.loads, lines)}
    assert {sample["doc"]["id"]: sample["resps"][0][0] for sample in samples} == written
    assert all(sample["arguments"]["gen_args_0"]["arg_0"].endswith("\n\n") for sample in samples)
    found = json.loads(results.read_text())["results"]["my_sums"]["accuracy,none"]
    assert found == pytest.approx(own.accuracy.value)
    if thoughts is None:
        assert 0 < found < 1


def test_without_a_gpu_the_default_device_of_lm_eval_is_the_cpu(saved_model: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model, tokenizer = open_model(str(saved_model), "cuda:0", "bfloat16")
    assert (model.device.type, model.dtype, model.training) == ("cpu", torch.bfloat16, False)
    assert tokenizer.eos_token_id is not None


@pytest.mark.slow
def test_an_instance_and_a_registered_name(saved_model: Path, local_task: Path) -> None:
    """`simple_evaluate` with an instance, prompted as it was trained, equals the same by name; nonsense is one line."""
    import lm_eval

    from latentthought.evaluation.harness import LatentThoughtLM, register, task_manager

    register()
    settings: dict[str, Any] = {"tasks": ["my_sums"], "bootstrap_iters": 0}
    folder = str(local_task / "harness")
    model = LatentThoughtLM(str(saved_model), device="cpu")
    manager = task_manager(model, include_path=folder, include_defaults=False)
    by_instance = lm_eval.simple_evaluate(model=model, task_manager=manager, **settings)
    chosen = {"pretrained": str(saved_model), "device": "cpu"}
    manager = task_manager(include_path=folder, include_defaults=False, metadata=chosen)
    by_name = lm_eval.simple_evaluate(
        model="latentthought", model_args=chosen, task_manager=manager, **settings
    )
    assert by_instance["results"]["my_sums"] == by_name["results"]["my_sums"]
    assert by_name["config"]["thoughts"] == 2
    assert [s["arguments"] for s in by_instance["samples"]["my_sums"]] == [
        s["arguments"] for s in by_name["samples"]["my_sums"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model_args", "pretrained=no/such/folder", "--tasks", "latentthought_hops"],
            "no such folder: no/such/folder",
        ),
        (["--model_args", "pretrained=x", "--tasks", "latentthought_nonsense"], "lm-eval: Tasks not found"),
        (["--tasks", "latentthought_hops"], "pretrained="),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["lm-eval", *arguments]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("latentthought: error: ")
    assert message in line


@pytest.mark.parametrize(
    "options",
    [
        ["--tasks", "hellaswag,latentthought_hops", "--num_fewshot", "3"],
        ["run", "-t", "hellaswag", "latentthought_hops", "-f", "3"],
        ["--tasks", "latentthought_hops", "--config", "CONFIG"],
    ],
)
def test_examples_that_lm_eval_would_leave_out_are_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("num_fewshot: 3\nmodel_args: {pretrained: x}\n")
    assert main(["lm-eval", *(str(config) if option == "CONFIG" else option for option in options)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("latentthought: error: --num_fewshot 3: latentthought_hops takes no examples")
    assert "few_shot.count=3" in line


@pytest.mark.parametrize("arguments", [[], ["run"]])
def test_nothing_to_run_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["lm-eval", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("latentthought: error: say what to run: --model_args pretrained=RUN --tasks NAME")


def test_defaults_of_the_command() -> None:
    from latentthought.cli.lm_eval import with_defaults

    ours = ["--model", "latentthought", "--batch_size", "auto"]
    assert with_defaults(["--tasks", "a"]) == ["--tasks", "a", *ours]
    assert with_defaults(["run", "--tasks", "a", "-b", "3"]) == ["run", "--tasks", "a", "-b", "3", *ours[:2]]
    for untouched in (
        ["--model=hf"],
        ["run", "-M", "hf"],
        ["ls", "tasks"],
        ["--help"],
        ["--config", "x"],
        [],
        ["run"],
    ):
        assert with_defaults(untouched) == untouched
