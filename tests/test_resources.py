"""Names of recipes and tasks: what they lead to in a checkout, in an installed package, and when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentthought import resources
from latentthought.errors import MissingFileError, NotFoundError


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    """A package that ships three recipes and a task; the working directory is elsewhere and empty."""
    package = tmp_path / "site" / "latentthought"
    for name in ("recipes/quickstart", "recipes/lrd/1-teacher", "recipes/lrd/2-student", "evals/gsm8k"):
        file = package / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"name: {name}\n")
    (package / "recipes" / "README.md").write_text("not a recipe")
    monkeypatch.setattr(resources, "files", lambda _: package)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return package


def test_lists_are_names_below_the_folder(shipped):
    assert resources.list_recipes() == ["lrd/1-teacher", "lrd/2-student", "quickstart"]
    assert resources.list_tasks() == ["gsm8k"]


def test_a_name_leads_to_its_file_with_or_without_suffix(shipped):
    assert resources.find_recipe("quickstart") == shipped / "recipes" / "quickstart.yaml"
    assert resources.find_recipe("quickstart.yaml") == shipped / "recipes" / "quickstart.yaml"
    assert resources.find_recipe("lrd/1-teacher") == shipped / "recipes" / "lrd" / "1-teacher.yaml"
    assert resources.find_task("gsm8k") == shipped / "evals" / "gsm8k.yaml"


def test_an_explicit_path_comes_first(shipped):
    Path("quickstart.yaml").write_text("name: mine\n")
    assert resources.find_recipe("quickstart.yaml") == Path("quickstart.yaml")
    assert resources.find_recipe(Path("quickstart.yaml").absolute()) == Path("quickstart.yaml").absolute()
    # a bare name is never a path
    assert resources.find_recipe("quickstart") == shipped / "recipes" / "quickstart.yaml"


def test_a_stray_file_does_not_shadow_a_name(shipped):
    Path("gsm8k").write_text("rows")
    assert resources.find_task("gsm8k") == shipped / "evals" / "gsm8k.yaml"


def test_an_unknown_name_lists_near_misses(shipped):
    with pytest.raises(
        NotFoundError, match=r"unknown recipe 'quickstar'\. Did you mean quickstart\? Known: lrd/1-teacher"
    ):
        resources.find_recipe("quickstar")
    with pytest.raises(NotFoundError, match=r"Did you mean lrd/1-teacher"):
        resources.find_recipe("1-teacher")
    with pytest.raises(NotFoundError, match=r"unknown task 'gsmk'\. Did you mean gsm8k\?"):
        resources.find_task("gsmk")


@pytest.mark.parametrize("name", ["", ".", "..", "lrd", "../recipes/quickstart", "lrd/"])
def test_odd_names_are_unknown(shipped, name):
    with pytest.raises(NotFoundError, match="unknown recipe"):
        resources.find_recipe(name)


def test_a_missing_path_names_its_neighbour_or_a_shipped_name(shipped):
    Path("mine.yaml").write_text("name: mine\n")
    with pytest.raises(
        MissingFileError, match=r"no such recipe file: mien\.yaml\. Did you mean mine\.yaml\?"
    ):
        resources.find_recipe("mien.yaml")
    with pytest.raises(MissingFileError, match=r"nowhere/quikstart\.yaml\. Did you mean quickstart\?"):
        resources.find_recipe("nowhere/quikstart.yaml")
    with pytest.raises(MissingFileError, match=r"no such task file: zzz\.yml\.$"):
        resources.find_task("zzz.yml")


def test_a_checkout_keeps_its_folders_beside_the_package(shipped, monkeypatch):
    root = shipped.parent.parent / "checkout"
    (root / "latentthought").mkdir(parents=True)
    (root / "recipes").mkdir()
    (root / "recipes" / "mine.yaml").write_text("name: mine\n")
    monkeypatch.setattr(resources, "files", lambda _: root / "latentthought")
    with pytest.raises(MissingFileError, match="this installation has no recipes folder"):
        resources.list_recipes()  # some other project's `recipes` in site-packages
    (root / "pyproject.toml").write_text("")
    assert resources.list_recipes() == ["mine"]


def test_the_shipped_files_of_this_checkout_are_found(repository):
    assert resources.find_recipe("quickstart") == repository / "recipes" / "quickstart.yaml"
    assert resources.find_task("gsm8k") == repository / "evals" / "gsm8k.yaml"
