"""A process with MLflow imported, which takes seconds: it runs each program in a child.

It reads programs from its input, one a line, as JSON: ``code``, or the ``module`` to run with its
``arguments``; the ``folder`` to stand in; ``variables``, which are the whole environment; and the
files ``output``, ``errors`` and ``ended``, of which the last one gets the exit code.
"""

import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

# What programs import; a program that wants more can import it.


def main() -> None:
    """Start a child for each line, and say its process id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    for line in sys.stdin:
        program = json.loads(line)
        child = os.fork()
        if child == 0:
            run(program)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


def run(program: dict[str, Any]) -> None:
    """Run the program as a process of its own would be run, and never return."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        enter(program)
        code = run_as_main(program)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        written = Path(f"{program['ended']}.part")
        written.write_text(str(code))
        written.rename(program["ended"])
        os._exit(code)


def enter(program: dict[str, Any]) -> None:
    """Take the program's place: its folder, its environment and its output."""
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(program["output"], writing, 0o600), 1)
    os.dup2(os.open(program["errors"], writing, 0o600), 2)
    os.chdir(program["folder"])
    os.environ.clear()
    os.environ.update(program["variables"])


def run_as_main(program: dict[str, Any]) -> int:
    """Run the program's code or module and return its exit code."""
    sys.argv = ["-c", *program.get("arguments", [])]
    try:
        if "module" in program:
            runpy.run_module(program["module"], run_name="__main__", alter_sys=True)
        else:
            exec(compile(program["code"], "<program>", "exec"), {"__name__": "__main__"})  # noqa: S102
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


if __name__ == "__main__":
    main()
