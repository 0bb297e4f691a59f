"""Graphs in the manner of ProsQA (Hao et al. 2024, arXiv:2412.06769, appendix), for training sets of any size.

The published rule, with the numbers left open there fitted to the validation file: a graph grows node by node from two roots;
a node has Poisson(1.5) parents, drawn from the descendants of the first root only (35 %), of the second only (45 %) or from all
nodes (20 %), weighted by 1 + 1.5 x depth; nodes that touch no edge fall away; nodes without parents are individuals, the rest
classes. The asked class is the deepest leaf that only one root reaches, the other class a random leaf that only the other root
reaches. Every edge is a sentence, in random order. About 0.3 ms a row.
Rejected: the authors' training rows under other names (not public where we could read them); rejection sampling towards the
statistics (hides which rule makes them).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import Field

from latentthought.config import Config
from latentthought.data.synthetic.splits import belongs

_NAMES = "Alex Bob Carol Davis Eva Fae Gabriel Jack Max Oliver Polly Rex Sally Sam Stella Tom Wren"
_STEMS = (
    "bom boom brim chor dum fel fom ger gor grim gwom hil im jel jom ker lem lor num quim "
    "rem rom ror scrom shum ster stor ter tim tum vum wor wum yer yim yum zhor zum"
)
NAMES = tuple(_NAMES.split())
CLASSES = tuple(f"{stem}pus" for stem in _STEMS.split())


class GraphOptions(Config):
    """nodes: drawn before isolated ones fall away; parents: mean number; first_root, second_root: how often a node's parents
    come from the descendants of that root only; depth_weight: pull towards deep parents; hops between root and asked class.

    `*_rows`: rows of a split when no `limit` is given (17,886 is the size of the original training file).
    """

    nodes: int = Field(default=28, ge=8, le=40)
    parents: float = Field(default=1.5, gt=0.5, le=4)
    first_root: float = Field(default=0.35, gt=0, lt=0.5)
    second_root: float = Field(default=0.45, gt=0, lt=0.5)
    depth_weight: float = Field(default=1.5, ge=0)
    min_hops: int = Field(default=3, ge=1, le=4)
    max_hops: int = Field(default=6, ge=4)
    train_rows: int = Field(default=17_886, ge=1)
    validation_rows: int = Field(default=300, ge=1)
    test_rows: int = Field(default=500, ge=1)


def raw_rows(options: GraphOptions, split: str, n: int, seed: int) -> list[dict[str, Any]]:
    """`n` rows with the fields of the real files; equal arguments give equal rows, and splits share none."""
    return list(iterate(options, split, n, seed))


def iterate(options: GraphOptions, split: str, n: int | None, seed: int) -> Iterator[dict[str, Any]]:
    """`raw_rows` one at a time; `n=None` never ends."""
    rng = random.Random(f"prosqa {split} {seed}")
    made = 0
    while n is None or made < n:
        row = _row(rng, options)
        if row is not None and belongs(content_key(row["question"]).encode(), split):
            yield row
            made += 1


def content_key(question: str) -> str:
    """What makes two questions the same: their sentences, in any order."""
    return " ".join(sorted(question.replace("?", ".").split(". ")))


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows as JSON lines that the source `prosqa` reads, whole or not at all; returns how many."""
    temporary = path.with_name(path.name + ".tmp")
    count = 0
    with temporary.open("w", encoding="utf-8", newline="\n") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    temporary.replace(path)
    return count


def _row(rng: random.Random, options: GraphOptions) -> dict[str, Any] | None:
    """One row, or None where the graph drawn has no question of the wanted depth."""
    edges = _edges(rng, options)
    touched = sorted({node for edge in edges for node in edge})
    if touched[:2] != [0, 1]:
        return None  # a root without children
    number = {node: place for place, node in enumerate(touched)}
    edges = [(number[parent], number[child]) for parent, child in edges]
    children: list[list[int]] = [[] for _ in touched]
    has_parent = [False] * len(touched)
    for parent, child in edges:
        children[parent].append(child)
        has_parent[child] = True
    reached = [_distances(children, root) for root in (0, 1)]
    leaves = [
        [node for node in reached[root] if not children[node] and node not in reached[1 - root]]
        for root in (0, 1)
    ]
    if not leaves[0] or not leaves[1]:
        return None
    depths = [max(reached[root][node] for node in leaves[root]) for root in (0, 1)]
    root = rng.randrange(2) if depths[0] == depths[1] else depths.index(max(depths))
    individuals = has_parent.count(False)
    fits = individuals <= len(NAMES) and len(touched) - individuals <= len(CLASSES)
    if not fits or not options.min_hops <= depths[root] <= options.max_hops:
        return None
    target = rng.choice([node for node in leaves[root] if reached[root][node] == depths[root]])
    return _worded(
        rng, edges, has_parent, children, root, target, rng.choice(leaves[1 - root]), reached[root]
    )


def _edges(rng: random.Random, options: GraphOptions) -> list[tuple[int, int]]:
    """Edges (parent, child) of a graph grown from the roots 0 and 1, children in order."""
    descends = [1, 2]  # bit mask of the roots that a node descends from
    weights = [1.0, 1.0]
    depth = [0, 0]
    groups: list[list[int]] = [[], [0], [1], []]
    edges: list[tuple[int, int]] = []
    for node in range(2, options.nodes):
        count = _poisson(rng, options.parents)
        draw = rng.random()
        if draw < options.first_root:
            candidates = groups[1]
        elif draw < options.first_root + options.second_root:
            candidates = groups[2]
        else:
            candidates = list(range(node))
        mask, nearest = 0, 0
        for parent in _sample(rng, candidates, weights, count):
            edges.append((parent, node))
            mask |= descends[parent]
            nearest = min(nearest, depth[parent] + 1) if nearest else depth[parent] + 1
        descends.append(mask)
        depth.append(nearest)
        weights.append(1.0 + options.depth_weight * nearest)
        groups[mask].append(node)
    return edges


def _sample(rng: random.Random, candidates: list[int], weights: list[float], count: int) -> list[int]:
    """Up to `count` different candidates, each drawn by weight from those left."""
    if count >= len(candidates):
        return list(candidates)
    left = list(candidates)
    chosen = []
    for _ in range(count):
        picked = rng.choices(left, [weights[node] for node in left])[0]
        left.remove(picked)
        chosen.append(picked)
    return chosen


def _poisson(rng: random.Random, mean: float) -> int:
    """Knuth's product method: exact, and quick for small means."""
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def _distances(children: list[list[int]], root: int) -> dict[int, int]:
    """Fewest edges from the root to every node it reaches."""
    distance = {root: 0}
    queue = [root]
    for node in queue:
        for child in children[node]:
            if child not in distance:
                distance[child] = distance[node] + 1
                queue.append(child)
    return distance


def _worded(
    rng: random.Random,
    edges: list[tuple[int, int]],
    has_parent: list[bool],
    children: list[list[int]],
    root: int,
    target: int,
    other: int,
    distance: dict[int, int],
) -> dict[str, Any]:
    names, classes = iter(rng.sample(NAMES, len(NAMES))), iter(rng.sample(CLASSES, len(CLASSES)))
    words = [next(classes) if parent else next(names) for parent in has_parent]

    def sentence(parent: int, child: int) -> str:
        return f"{'Every ' if has_parent[parent] else ''}{words[parent]} is a {words[child]}."

    # one shortest path, walked back from the target
    path = [target]
    while path[-1] != root:
        child = path[-1]
        before = [
            node for node, far in distance.items() if far == distance[child] - 1 and child in children[node]
        ]
        path.append(rng.choice(before))
    path.reverse()
    sentences = [sentence(*edge) for edge in edges]
    rng.shuffle(sentences)
    asked = [words[target], words[other]]
    rng.shuffle(asked)
    return {
        "question": f"{' '.join(sentences)} Is {words[root]} a {asked[0]} or {asked[1]}?",
        "answer": f"{words[root]} is a {words[target]}.",
        "steps": [sentence(parent, child) for parent, child in pairwise(path)],
        "idx_to_symbol": words,
        "edges": [list(edge) for edge in edges],
        "root": root,
        "target": target,
        "neg_target": other,
    }
