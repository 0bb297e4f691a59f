"""Data sets by name: each turns its own raw rows into examples, from a local file, the data folder or the hub."""

from __future__ import annotations

from latentthought.data.sources.base import GeneratedSource, HubLocation, Source
from latentthought.data.sources.catalog import SOURCES
from latentthought.data.sources.loading import SourceConfig, load_examples

__all__ = ["SOURCES", "GeneratedSource", "HubLocation", "Source", "SourceConfig", "load_examples"]
