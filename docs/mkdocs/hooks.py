"""What the site needs beyond MkDocs: links that lead out of docs/, and pages that the navigation does not name.

A page links to `../recipes/quickstart.yaml`, which is right in the repository. The site holds what is below docs/ only, so each
file that a page names outside of it is copied to `files/<path>.txt`, which every browser shows, and the link is turned there.
A page that nobody has entered into the navigation stands in it all the same, at its end.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]+)(?=[)#])")


def on_config(config: Any) -> Any:
    """Put pages without a place in the navigation under "More"."""
    docs, named = Path(config.docs_dir), set(_pages(config.nav))
    there = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    if more := [page for page in there if page not in named]:
        config.nav = [*config.nav, {"More": more}]
    return config


def _pages(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from _pages(part)


def on_files(files: Files, config: Any) -> Files:
    """Add every file outside of docs/ that a page links to."""
    root = Path(config.docs_dir).parent
    for page in list(files.documentation_pages()):
        for target in _LINK.findall(page.content_string):
            path = _outside(page.src_uri, target)
            # one that is not there is left to MkDocs to complain about
            if path and (root / path).is_file() and files.get_file_from_path(_place(path)) is None:
                files.append(File.generated(config, _place(path), abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn the page's links to such files."""

    def turned(match: re.Match[str]) -> str:
        path = _outside(page.file.src_uri, match[1])
        if not path or files.get_file_from_path(_place(path)) is None:
            return match[0]
        return f"]({posixpath.relpath(_place(path), posixpath.dirname(page.file.src_uri) or '.')}"

    return _LINK.sub(turned, markdown)


def _outside(page: str, target: str) -> str | None:
    """The path from the root of the repository, of a target that leads out of docs/; else None."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path == "docs" or path.startswith(("docs/", "..", "/")) else path


def _place(path: str) -> str:
    return f"files/{path}.txt"
