"""Reads the repository's pages in Markdown: their headings, links, code and commands."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import dedent

from tests.support import ROOT

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SOURCE = re.compile(r"""(?:src|srcset)="([^"]+)\"""")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language, and its text without the page's indentation."""

    language: str
    text: str


@dataclass(frozen=True)
class Typed:
    """A command as somebody types it: the variables set before it, and its words."""

    variables: dict[str, str]
    words: list[str]

    @property
    def of_manage(self) -> list[str] | None:
        """The words that follow ``manage.py``; None for another program."""
        words = self.words[1:] if self.words[:1] == [".venv/bin/python"] else self.words
        return words[1:] if words[:1] == ["manage.py"] else None


@dataclass(frozen=True)
class Page:
    """A page of the repository."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        """The page as it is written."""
        return self.path.read_text()

    @cached_property
    def prose(self) -> str:
        """The page without its blocks of code."""
        return FENCE.sub("", self.text)

    @cached_property
    def blocks(self) -> list[Block]:
        """The blocks of code."""
        return [Block(language, dedent(text)) for _, language, text in FENCE.findall(self.text)]

    @cached_property
    def codes(self) -> list[str]:
        """The pieces of code inside sentences and tables, each on one line."""
        return [" ".join(code.split()) for code in CODE.findall(self.prose)]

    @cached_property
    def anchors(self) -> set[str]:
        """The names of the headings in links, as GitHub makes them."""
        return {
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in HEADING.findall(self.prose)
        }

    @cached_property
    def links(self) -> list[str]:
        """What the page links to, pictures among them."""
        plain = CODE.sub("", self.prose)
        return [*LINK.findall(plain), *SOURCE.findall(plain)]

    @cached_property
    def typed(self) -> list[Typed]:
        """The commands in blocks that show a terminal."""
        return [command for line in self.terminal for command in _commands(line)]

    @cached_property
    def terminal(self) -> list[str]:
        """The lines that somebody types, without their prompt."""
        return [
            line.removeprefix("$ ")
            for block in self.blocks
            if block.language == "console"
            for line in block.text.splitlines()
            if line.startswith("$ ")
        ]

    def rows(self, heading: str) -> list[list[str]]:
        """Return the cells of the tables below a heading, without the tables' heads."""
        _, _, below = self.prose.partition(f"## {heading}\n")
        below = re.split(r"^#{1,2} ", below, maxsplit=1, flags=re.MULTILINE)[0]
        lines = [line for line in below.splitlines() if line.startswith("|")]
        heads = {at for at, line in enumerate(lines) if re.fullmatch(r"[|:\- ]+", line)}
        return [
            [cell.strip() for cell in line.strip("|").split(" | ")]
            for at, line in enumerate(lines)
            if not heads & {at, at + 1}
        ]


def _commands(line: str) -> Iterator[Typed]:
    """Yield the commands of a line: those of a pipe, and those inside ``$(…)`` and an alias."""
    if inner := re.search(r"\$\((.*)\)", line):
        yield from _commands(inner[1])
        line = line.replace(inner[0], "…")
    words = shlex.split(line, comments=True)
    while words:
        end = words.index("|") if "|" in words else len(words)
        yield _command(words[:end])
        words = words[end + 1 :]


def _command(words: list[str]) -> Typed:
    variables: dict[str, str] = {}
    if words[:1] == ["export"]:
        words = words[1:]
    while words and (found := ASSIGNMENT.fullmatch(words[0])):
        variables[found[1]] = found[2]
        words = words[1:]
    return Typed(variables, words)


def pages() -> list[Page]:
    """Return every page of the repository."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tenants/**/*.md")]
    return [Page(path) for path in sorted(found)]


def page(name: str) -> Page:
    """Return the page at a path of the repository."""
    return Page(ROOT / name)
