"""The documentation as a site: it builds strictly, offline, with every page in its navigation, and a dead link fails it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="needs mkdocs: pip install 'latentthought[docs]'")

CONFIG = Path("docs") / "mkdocs" / "mkdocs.yml"


def build(tree: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(tree / CONFIG)]
    # a package index, a font or a script from elsewhere would be asked for through these
    offline = {"http_proxy": "http://localhost:9", "https_proxy": "http://localhost:9"}
    return subprocess.run(
        [*command, "--site-dir", str(site)],
        cwd=tree,
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    done = build(repository, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def tree(repository: Path, tmp_path: Path) -> Path:
    """A copy of all that a build reads, to be broken."""
    for name in ("docs", "recipes", "evals"):
        shutil.copytree(repository / name, tmp_path / name)
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(repository / name, tmp_path)
    return tmp_path


def test_every_page_is_built_and_in_the_navigation(site: Path, repository: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    for page in (repository / "docs").rglob("*.md"):
        built = page.relative_to(repository / "docs").with_suffix(".html")
        text = (site / built).read_text(encoding="utf-8")
        assert "<h1" in text, built
        assert built.name == "index.html" or f'href="{built}"' in front, f"{built} is not in the navigation"
        # a table or a list that lacks the empty line before it is shown as it was typed
        shown = re.sub(r"<pre>.*?</pre>|<code>.*?</code>", "", text, flags=re.DOTALL)
        assert not re.search(r"\| ?:?---|^- ", shown, re.MULTILINE), built


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures are the site's own."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"([^\"]+)", text)
        loaded += re.findall(r"<link\b[^>]*\bhref=\"([^\"]+)", text)
        assert [unescape(place) for place in loaded if re.match(r"(?:https?:)?//", place)] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(
            r"(?:@import|url\()\s*['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")
        ), style.name


def test_links_out_of_docs_lead_to_copies(site: Path, repository: Path) -> None:
    copies = sorted(site.glob("files/**/*.txt"))
    assert len(copies) > 15
    for copy in copies:
        source = repository / copy.relative_to(site / "files").with_suffix("")
        assert copy.read_bytes() == source.read_bytes()
    page = (site / "methods" / "coconut.html").read_text(encoding="utf-8")
    assert 'href="../files/recipes/coconut-gpt2-gsm8k.yaml.txt"' in page


@pytest.mark.parametrize(
    ("page", "text", "said"),
    [
        ("concepts.md", "[a](gone.md)", "gone.md"),
        ("concepts.md", "[a](recipes.md#gone)", "#gone"),
        ("methods/coconut.md", "[a](../../recipes/gone.yaml)", "gone.yaml"),
        ("methods/coconut.md", "![a](../figures/gone.svg)", "gone.svg"),
    ],
)
def test_a_dead_link_fails_the_build(page: str, text: str, said: str, tree: Path) -> None:
    with (tree / "docs" / page).open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
    done = build(tree, tree / "site")
    assert done.returncode != 0
    assert said in done.stderr


def test_a_page_that_is_gone_fails_the_build(tree: Path) -> None:
    (tree / "docs" / "faq.md").unlink()
    done = build(tree, tree / "site")
    assert done.returncode != 0
    assert "faq.md" in done.stderr


def test_a_new_page_needs_no_entry(tree: Path) -> None:
    (tree / "docs" / "new.md").write_text("# Something new\n", encoding="utf-8")
    done = build(tree, tree / "site")
    assert done.returncode == 0, done.stderr
    front = (tree / "site" / "index.html").read_text(encoding="utf-8")
    assert 'href="new.html"' in front
    assert "Something new" in front
