"""Every link of README and docs leads somewhere: to a file that is there, and to an anchor in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import anchors, blocks, dead_links, links, pages, slug_of


def test_links_lead_somewhere(repository: Path) -> None:
    found = {page: dead_links(page, repository) for page in pages(repository)}
    assert {str(page.relative_to(repository)): dead for page, dead in found.items() if dead} == {}
    assert sum(len(links(page)) for page in pages(repository)) > 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](other.md)", []),
        ("[a](other.md#two-words)", []),
        ("[a](#here) and ![b](other.md)", []),
        ("see https://arxiv.org", []),
        ("`[a](gone.md)` in code\n```\n[a](gone.md)\n```", []),
        ("[a](gone.md)", ["gone.md: no such file"]),
        ("![a](gone.svg)", ["gone.svg: no such file"]),
        ('<img alt="" src="gone.svg">', ["gone.svg: no such file"]),
        ("[a](other.md#gone)", ["other.md#gone: other.md has no #gone"]),
        ("[a](#gone)", ["#gone: page.md has no #gone"]),
        ("[a](../../above.md)", ["../../above.md: leads out of the repository"]),
        ("[a](/etc/hosts)", ["/etc/hosts: neither https nor relative"]),
        ("[a]: gone.md", ["gone.md: no such file"]),
    ],
)
def test_a_dead_link_is_seen(text: str, said: list[str], tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "other.md").write_text("# Other\n\n## Two `words`\n")
    (root / "page.md").write_text(f"# Here\n\n{text}\n")
    assert dead_links(root / "page.md", root) == said


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A (b), c\n## Same\n## Same\n```\n# no heading\n```\n### [Linked](x.md) `code` - end?\n"
    )
    assert anchors(page) == {"a-b-c", "same", "same-1", "linked-code---end"}
    assert slug_of("Which positions: `alignment`") == "which-positions-alignment"


def test_blocks_know_their_fences(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("x\n```bash\na\n```\n````\n```\nb\n```\n````\n")
    assert [(b.line, b.language, b.text) for b in blocks(page)] == [
        (2, "bash", "a\n"),
        (5, "", "```\nb\n```\n"),
    ]
    page.write_text("```\na\n")
    with pytest.raises(AssertionError, match="never closed"):
        list(blocks(page))
