#!/usr/bin/env python
"""Bulkhead's command line."""

import os
import sys
from pathlib import Path

# platform/ is a plain folder, not a package: as a package it would shadow Python's own `platform`.
sys.path.insert(0, str(Path(__file__).resolve().parent / "platform"))


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bulkhead.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # as shells name it; a traceback would tell nobody anything
