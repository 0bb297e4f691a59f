"""Rows of a hub data set, or one line within seconds saying that the hub cannot be reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from latentthought.data.sources.base import HubLocation
from latentthought.errors import DataError, HubUnreachableError, NotFoundError
from latentthought.hub import cache_only, offline_reason


def hub_rows(location: HubLocation, split: str, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, row) of a hub split.

    Raises HubUnreachableError, NotFoundError (no such set) or DataError (gated, damaged).
    """
    absent = offline_reason()
    for configuration, hub_split in location.splits[split]:
        table = _load(location, configuration, hub_split, source, absent)
        name = "/".join(part for part in (location.repo, configuration, hub_split) if part)
        for number, row in enumerate(table, 1):
            yield f"{name}, row {number}", row


def _load(
    location: HubLocation, configuration: str | None, split: str, source: str, absent: str | None
) -> Any:
    import datasets

    with cache_only(absent is not None):
        try:
            return datasets.load_dataset(
                location.repo,
                configuration,
                split=split,
                revision=location.revision,
                streaming=location.streaming,
            )
        except Exception as error:  # the library raises a dozen kinds, from three packages
            text = (str(error).splitlines() or [type(error).__name__])[0]
            if absent or (isinstance(error, OSError) and not isinstance(error, FileNotFoundError)):
                raise HubUnreachableError(
                    f"cannot load {location.repo!r} (source {source!r}) from the hub: {absent or text}; "
                    "to read a local copy, give data.path=FILE or set LATENTTHOUGHT_DATA to a folder that holds it"
                ) from None
            kind = NotFoundError if isinstance(error, FileNotFoundError) else DataError
            raise kind(
                f"hub data set {location.repo!r} (source {source!r}): {text}; a local copy: data.path=FILE"
            ) from None
