"""How a test tells a client in another process what to do, and hears what came of it.

Everything passes through files in one folder: ``asked.json`` says which scenarios to run with
which values, and ``said.json`` what each of them returned, or how it broke.
"""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

Scenario = Callable[[dict[str, Any], Path], Any]


def run(scenarios: Mapping[str, Scenario]) -> None:
    """Run what is asked for, in order, and write down what each scenario says."""
    folder = Path(sys.argv[1])
    asked = json.loads((folder / "asked.json").read_text())
    said = {}
    for name, values in asked.items():
        try:
            said[name] = scenarios[name](values, folder)
        except Exception:
            said[name] = {"broke": traceback.format_exc()}
    (folder / "said.json").write_text(json.dumps(said))


def refusal(call: Callable[[], Any]) -> list[str]:
    """Return the code and the message of the error that a user's program would catch."""
    try:
        got = call()
    except MlflowException as error:
        return [error.error_code, str(error)]
    raise AssertionError(f"Nothing was refused: {got!r}")
