"""What the README shows, run as it stands there."""

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any

from tests.support import ROOT

README = ROOT / "README.md"


def readme(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run the program of the section on a first model, in a folder of its own."""
    section = README.read_text().partition("## Your first model")[2].partition("\n## ")[0]
    [program] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    place = folder / "readme"
    place.mkdir()
    os.chdir(place)
    printed = io.StringIO()
    known: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(printed):
        exec(program, known)  # noqa: S102 - it is ours
    return {
        "printed": printed.getvalue().strip(),
        "expected": str(known["model"].predict(known["rows"])),
    }
