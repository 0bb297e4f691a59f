"""All sources, by name."""

from __future__ import annotations

from latentthought.data.sources.base import Source
from latentthought.data.sources.choice import Aqua, MathQa
from latentthought.data.sources.generated import Hops, KnightsGenerated, ProsQaGenerated
from latentthought.data.sources.graphs import ProntoQa, ProsQa
from latentthought.data.sources.gsm8k import Gsm8k, Gsm8kAug
from latentthought.data.sources.hendrycks_math import HendrycksMath, Math500
from latentthought.data.sources.puzzles import KnightsKnaves, Zebra
from latentthought.data.sources.table import File
from latentthought.data.sources.text import Cosmopedia, FineWeb, Text
from latentthought.data.sources.traces import R1Traces

_ALL: tuple[type[Source], ...] = (
    Gsm8k,
    Gsm8kAug,
    HendrycksMath,
    Math500,
    Aqua,
    MathQa,
    ProsQa,
    ProntoQa,
    KnightsKnaves,
    Zebra,
    R1Traces,
    Text,
    Cosmopedia,
    FineWeb,
    File,
    Hops,
    KnightsGenerated,
    ProsQaGenerated,
)

SOURCES: dict[str, Source] = {source.name: source() for source in _ALL}
