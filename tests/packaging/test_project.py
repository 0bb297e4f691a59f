"""The project files agree with the tree and with one another."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


@pytest.fixture(scope="module")
def project(repository) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins(repository) -> dict[str, Version]:
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pinned), "every constraint is name==version"
    names = [canonicalize_name(name) for name, _ in pinned]
    assert names[0] == "torch", "torch comes first"
    assert len(names) == len(set(names))
    return {name: Version(version) for name, (_, version) in zip(names, pinned, strict=True)}


def test_the_package_list_is_the_tree(repository, project):
    """It is written by hand, since recipes/ and evals/ are mapped into the package."""
    found = {
        ".".join(file.parent.relative_to(repository).parts)
        for file in (repository / "latentthought").rglob("__init__.py")
    }
    mapped = set(project["tool"]["setuptools"]["package-dir"]) - {""}
    assert set(project["tool"]["setuptools"]["packages"]) == found | mapped


def test_every_folder_of_code_is_a_package(repository):
    folders = {file.parent for file in (repository / "latentthought").rglob("*.py")}
    assert [f for f in sorted(folders) if not (f / "__init__.py").is_file()] == []


def test_every_dependency_is_pinned_to_a_version_in_its_range(project, pins):
    groups = project["project"]["optional-dependencies"]
    declared = project["project"]["dependencies"] + [
        d for name, group in groups.items() if name != "te" for d in group
    ]
    for text in declared:
        requirement = Requirement(text)
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not pinned in constraints.txt"
        assert version in requirement.specifier, (
            f"constraints.txt pins {requirement.name} {version}, outside {requirement}"
        )


def test_ci_and_hooks_call_what_the_makefile_has(repository):
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"quickstart", "test", "test-full", "lint", "bench", "clean", "help"} <= targets
    called = re.findall(r"^make (.*)$", (repository / ".ci" / "run").read_text(), flags=re.MULTILINE)
    assert called
    assert set(called[0].split()) <= targets


def test_no_file_is_meant_for_one_machine(repository, project):
    """Absolute paths of a developer's machine must not land in recipes or tasks."""
    files = [*(repository / "recipes").rglob("*.yaml"), *(repository / "evals").rglob("*.yaml")]
    assert files
    pattern = re.compile(r"(?:^|[\s'\"=])(?:/(?:home|work|root|tmp|Users|mnt)/|[A-Z]:\\)")
    assert [
        str(Path(f).relative_to(repository)) for f in files if pattern.search(f.read_text(encoding="utf-8"))
    ] == []
