"""How the tests are laid out: what two of them share lies in ``tests/support``."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

MODULES = sorted((ROOT / "tests").rglob("*.py"))


def imported(module: Path) -> Iterator[str]:
    """Yield the dotted name of all that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_a_test_module_or_a_conftest(module: Path) -> None:
    """Importing one would run its tests twice, or tie two tests that have nothing in common."""
    for name in imported(module):
        if name.startswith("tests."):
            parts = name.split(".")
            assert not any(part.startswith("test_") or part == "conftest" for part in parts), name
