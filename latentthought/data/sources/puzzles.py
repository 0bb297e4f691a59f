"""Knights and knaves (Xie et al. 2024, arXiv:2410.23123) and ZebraLogic grids (Lin et al. 2025, arXiv:2502.01100)."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from latentthought.data.example import Example, optional_text, steps_field, text_field
from latentthought.data.sources.base import HubLocation, Source
from latentthought.errors import DataError

_PEOPLE = ("Amelia", "Penelope", "Evelyn", "Zoey", "Michael", "Ethan", "Oliver")


class KnightsKnaves(Source):
    """Answer `Amelia is a knight, Ethan is a knave`, people in the order of the text; `meta.solution` maps name to kind.

    Steps are the worked search (`cot_steps`). `meta.level` is the number of people; the hub's 2 and 8 people are not used,
    as in Logic-RL (3 to 7).
    """

    name = "knights-knaves"
    hub = HubLocation(
        "K-and-K/knights-and-knaves",
        {split: tuple((split, f"{people}ppl") for people in range(3, 8)) for split in ("train", "test")},
    )
    local_files = {
        "train": ("zebra/knights_knaves_train.jsonl.gz",),
        "test": ("zebra/knights_knaves_test.jsonl.gz",),
    }

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        names, solution = row.get("names"), row.get("solution")
        if (
            not isinstance(names, list)
            or not isinstance(solution, list)
            or len(names) != len(solution)
            or not names
        ):
            raise DataError(f"{where}: fields 'names' and 'solution' must be two lists of the same length")
        if not all(isinstance(knight, bool) for knight in solution):
            raise DataError(
                f"{where}: field 'solution' must hold true (knight) and false (knave), got {solution!r}"
            )
        kinds = {
            str(name): "knight" if knight else "knave" for name, knight in zip(names, solution, strict=True)
        }
        steps_key = "cot_steps" if "cot_steps" in row else "cot_repeat_steps"
        return Example(
            id="",
            question=text_field(row, "quiz", where),
            steps=steps_field(row, steps_key, where),
            answer=", ".join(f"{name} is a {kind}" for name, kind in kinds.items()),
            solution=optional_text(row, "solution_text", where),
            meta={"solution": kinds, "level": str(len(names))},
        )

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        rng = random.Random(f"knights {seed}")
        rows = []
        for index in range(n):
            names = rng.sample(_PEOPLE, rng.randint(3, 5))
            # each speaks of the next one; the last one of the first, whose kind is then told by a sentence true for a knight
            solution = [rng.random() < 0.5 for _ in names]
            said = []
            for speaker, name in enumerate(names[:-1]):
                seems = solution[speaker + 1] == solution[speaker]
                said.append(f'{name} said, "{names[speaker + 1]} is a {"knight" if seems else "knave"}".')
            rows.append(
                {
                    "index": index,
                    "quiz": f"You meet {', '.join(names)}. {' '.join(said)} {names[0]} is a "
                    f"{'knight' if solution[0] else 'knave'}. So who is a knight and who is a knave?",
                    "names": names,
                    "solution": solution,
                    "solution_text": ", ".join(
                        _kind(name, knight) for name, knight in zip(names, solution, strict=True)
                    )
                    + ".",
                    "cot_steps": [
                        f"{_kind(name, knight)}." for name, knight in zip(names, solution, strict=True)
                    ],
                }
            )
        return rows


def _kind(name: str, knight: bool) -> str:
    return f"{name} is a {'knight' if knight else 'knave'}"


class Zebra(Source):
    """Answer: the grid as compact JSON, `{"House 1": {"Name": "Arnold", ...}, ...}`, the form ZebraLogic itself asks for.

    The question is the puzzle and one line that names the keys, which the puzzle's text does not. No written reasoning exists,
    so `steps` is empty. `meta`: `solution` (header and rows), `clues` (text, in order), `level` (`3x5`: houses x features).
    Copies whose solutions are masked with `___` are refused row by row.
    """

    name = "zebra"
    hub = HubLocation("WildEval/ZebraLogic", {"test": (("grid_mode", "test"),)})
    local_files = {"train": ("zebra/zebralogic_train.jsonl.gz",), "test": ("zebra/zebralogic_test.jsonl",)}

    def parse(self, row: Mapping[str, Any], where: str) -> Example:
        puzzle = text_field(row, "puzzle", where)
        header, rows = _grid(row.get("solution"), where)
        keys = header[1:]
        houses = {f"House {line[0]}": dict(zip(keys, line[1:], strict=True)) for line in rows}
        form = json.dumps({"House 1": dict.fromkeys(keys, "...")})[:-1] + ", ...}"
        clues = re.findall(r"^\s*\d+\.\s+(.*\S)", puzzle.partition("Clues:")[2], re.MULTILINE)
        return Example(
            id=optional_text(row, "id", where) or "",
            question=f"{puzzle}\n\nGive the solution as JSON: {form}",
            steps=(),
            answer=json.dumps(houses, ensure_ascii=False),
            meta={
                "solution": {"header": header, "rows": rows},
                "clues": tuple(clues),
                "level": (optional_text(row, "size", where) or f"{len(rows)}x{len(keys)}").replace("*", "x"),
            },
        )

    def smoke_rows(self, n: int, seed: int) -> list[dict[str, Any]]:
        rng = random.Random(f"zebra {seed}")
        rows = []
        for index in range(n):
            names, pets = rng.sample(["Eric", "Arnold", "Peter"], 3), rng.sample(["cat", "dog", "fish"], 3)
            clues = [f"{names[0]} is in the first house.", f"{names[1]} is in the second house."]
            clues += [
                f"The person with the {pet} is {name}."
                for name, pet in list(zip(names, pets, strict=True))[:2]
            ]
            listed = "\n".join(f"{number}. {clue}" for number, clue in enumerate(clues, 1))
            rows.append(
                {
                    "id": f"smoke-3x2-{seed}-{index}",
                    "size": "3*2",
                    "puzzle": "There are 3 houses, numbered 1 to 3.\n - Each has a unique name: `Eric`, `Arnold`, `Peter`\n"
                    f" - Each person has a pet: `cat`, `dog`, `fish`\n\n## Clues:\n{listed}\n",
                    "solution": {
                        "header": ["House", "Name", "Pet"],
                        "rows": [[str(i + 1), names[i], pets[i]] for i in range(3)],
                    },
                }
            )
        return rows


def _grid(solution: Any, where: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a solution, checked to be a whole grid of text."""
    header = solution.get("header") if isinstance(solution, Mapping) else None
    rows = solution.get("rows") if isinstance(solution, Mapping) else None
    if not isinstance(header, list) or not isinstance(rows, list) or not rows or len(header) < 2:
        raise DataError(
            f"{where}: field 'solution' must have a 'header' and 'rows', got {str(solution)[:80]!r}"
        )
    cells = [[str(cell) for cell in row] for row in rows]
    if any(len(row) != len(header) for row in cells):
        raise DataError(f"{where}: field 'solution': a row does not have the header's {len(header)} cells")
    if any(set(cell) == {"_"} for row in cells for cell in row):
        raise DataError(f"{where}: field 'solution' is masked in this copy; an unmasked one: data.path=FILE")
    return [str(name) for name in header], cells
