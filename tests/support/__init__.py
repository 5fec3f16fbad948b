"""What tests share: people, clients, browsers, foreign servers, and where the repository is."""

from pathlib import Path

#: The folder of the repository.
ROOT = Path(__file__).resolve().parents[2]
