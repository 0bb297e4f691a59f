"""From the name of a recipe or task to its file.

Recipes and tasks are YAML files that users read and copy, so they live at the top of the repository (`recipes/`, `evals/`)
and ship inside the package (`latentthought/recipes`, `latentthought/evals`). A name is the file's path below that folder
without its suffix: `quickstart`, `lrd/1-teacher`. Looked up in this order: an explicit path to a YAML file, the folder inside
the installed package, the folder beside the package in a checkout. Rejected: a registry to keep in step with the files, and
looking in the working directory for bare names (a stray `gsm8k` folder would shadow the task).
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from latentthought.errors import MissingFileError, NotFoundError, nearest, unknown

_SUFFIXES = (".yaml", ".yml")
# folders of `evals/` whose files are no tasks of ours
_LM_EVAL, _SUITES = "lm_eval", "suites"
_OTHER_KINDS = {"evals": (_LM_EVAL, _SUITES)}


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe given by name (`quickstart`) or path (`my/recipe.yaml`).

    Raises `MissingFileError` for a path that does not exist, `NotFoundError` with near misses for an unknown name.
    """
    return _find("recipe", "recipes", name)


def find_task(name: str | Path) -> Path:
    """The file of an evaluation task given by name (`gsm8k`) or path; errors as in `find_recipe`."""
    return _find("task", "evals", name)


def list_recipes() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return sorted(_named("recipes"))


def list_tasks() -> list[str]:
    """Names of the shipped evaluation tasks, sorted."""
    return sorted(_named("evals"))


def find_suite(name: str | Path) -> Path:
    """The file of a suite of tasks given by name (`logic`) or path; errors as in `find_recipe`."""
    return _find("suite", f"evals/{_SUITES}", name)


def list_suites() -> list[str]:
    """Names of the shipped suites, sorted."""
    return sorted(_named(f"evals/{_SUITES}"))


def lm_eval_folder() -> Path:
    """The folder of our tasks in the form of lm-evaluation-harness."""
    return _root("evals") / _LM_EVAL


def _find(kind: str, folder: str, name: str | Path) -> Path:
    path = Path(name)
    is_path = path.suffix.lower() in _SUFFIXES
    if is_path and path.is_file():
        return path
    shipped = _named(folder)
    # `quickstart.yaml` means the shipped file unless there is one of that name right here
    key = path.with_suffix("").as_posix() if is_path else str(name)
    if key in shipped:
        return shipped[key]
    if is_path:
        raise MissingFileError(f"no such {kind} file: {path}.{_hint(path, shipped)}")
    raise NotFoundError(unknown(kind, str(name), shipped))


def _hint(path: Path, shipped: dict[str, Path]) -> str:
    """Near misses of a missing path: its neighbours on disk first, then shipped names."""
    beside = {p.stem: p for p in _yaml_files(path.parent)} if path.parent.is_dir() else {}
    close = [str(beside[stem]) for stem in nearest(path.stem, beside)]
    close = close or nearest(path.stem, shipped)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _named(folder: str) -> dict[str, Path]:
    """Name -> file for everything below the shipped folder."""
    top, _, below = folder.partition("/")
    root, others = _root(top) / below, _OTHER_KINDS.get(folder, ())
    found = {file.relative_to(root): file for file in _yaml_files(root, "**/*")}
    return {
        path.with_suffix("").as_posix(): file for path, file in found.items() if path.parts[0] not in others
    }


def _yaml_files(root: Path, pattern: str = "*") -> list[Path]:
    return sorted(p for p in root.glob(pattern) if p.suffix.lower() in _SUFFIXES and p.is_file())


def _root(folder: str) -> Path:
    package = Path(str(files("latentthought")))
    inside, beside = package / folder, package.parent / folder
    if inside.is_dir():
        return inside
    # site-packages may hold some other project's `recipes`: only a checkout's own folder counts
    if beside.is_dir() and (package.parent / "pyproject.toml").is_file():
        return beside
    raise MissingFileError(
        f"this installation has no {folder} folder (looked for {inside} and {beside}): reinstall latentthought"
    )
