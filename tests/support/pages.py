"""Reading a page as a browser would: its links, its forms, and what is wrong with it."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from django.test import Client
from django.urls import reverse

VOID = {
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"),
}
#: Attributes with which a page loads or sends something.
ADDRESSES = {"href", "src", "action", "formaction", "poster", "hx-get", "hx-post", "srcset"}
NEED_A_LABEL = {"input", "select", "textarea"}


@dataclass
class Form:
    """A form: where it goes and what it would send untouched."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """A page's links and forms, and its faults in words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.links: list[str] = []
        self.forms: list[Form] = []
        self.faults: list[str] = []
        self.text = ""
        self.title = ""
        self.headings: list[int] = []
        self._ids: list[str] = []
        self._references: list[str] = []
        self._labelled: set[str] = set()
        self._fields: list[dict[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self._judge()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element."""
        at = {name: value or "" for name, value in attrs}
        if len(at) < len(attrs):
            self.faults.append(f"<{tag}> names an attribute twice")
        self._look(tag, at)
        if tag == "a" and "href" in at:
            self.links.append(at["href"])
        if tag == "form":
            self.forms.append(Form(at.get("action", ""), at.get("method", "get").lower()))
        if tag in NEED_A_LABEL:
            if at.get("type") != "hidden" and "label" not in self._open:
                self._fields.append(at)
            if self.forms and "form" in self._open and "name" in at:
                self.forms[-1].fields[at["name"]] = at.get("value", "")
        if tag == "label":
            self._labelled.add(at.get("for", ""))
        if tag in {"h1", "h2", "h3", "h4", "h5", "h6"}:
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element that closes itself, as SVG's do."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Close an element."""
        if tag in VOID:
            return
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:]}")
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        """Collect what people read."""
        if "script" in self._open and data.strip():
            self.faults.append("a script stands in the page")
        elif self._open[-1:] == ["title"] and "svg" not in self._open:
            self.title += data
        else:
            self.text += data

    def _look(self, tag: str, at: dict[str, str]) -> None:
        if tag in {"style", "iframe", "object", "embed", "base"}:
            self.faults.append(f"<{tag}>")
        for name, value in at.items():
            if name == "style" or name.startswith("on"):
                self.faults.append(f"<{tag} {name}>: the page's policy drops it")
            if name in ADDRESSES and urlsplit(value).netloc and tag != "a":
                self.faults.append(f"<{tag} {name}={value}> goes to another server")
        if "id" in at:
            self._ids.append(at["id"])
        for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls", "data-copy"):
            self._references += at.get(name, "").split()

    def _judge(self) -> None:
        for twice in {name for name in self._ids if self._ids.count(name) > 1}:
            self.faults.append(f"id {twice} is there twice")
        for name in set(self._references) - set(self._ids):
            self.faults.append(f"nothing has the id {name}")
        for at in self._fields:
            if not at.keys() & {"aria-label", "aria-labelledby"} and (
                at.get("id", "") not in self._labelled
            ):
                self.faults.append(f"no label: {at}")
        for form in self.forms:
            if (form.method == "post") != ("csrfmiddlewaretoken" in form.fields):
                self.faults.append(f"the token is wrong in the {form.method} form to {form.action}")
        if self._open:
            self.faults.append(f"not closed: {self._open}")
        if "<!DOCTYPE" in self.html:
            if self.headings.count(1) != 1:
                self.faults.append(f"{self.headings.count(1)} h1")
            if not self.title.strip():
                self.faults.append("no title")


def url(name: str, *args: Any, team: str = "team_alpha") -> str:
    """Return a page's address in a team."""
    return reverse(name, args=[team, *args])


def page_of(response: Any) -> Page:
    """Read a response as a page without faults."""
    page = Page(response.content.decode())
    assert not page.faults
    return page


def page_with_status(response: Any, status: int = 200) -> Page:
    """Read a response of that status as a page without faults."""
    assert response.status_code == status
    return page_of(response)


def crawl(browser: Client, start: str, *, leave: tuple[str, ...] = ()) -> dict[str, Page]:
    """Follow every link from ``start``; return each page by its address.

    Fails on a link that leads to anything but a page, a file or a redirect to one.
    """
    found: dict[str, Page] = {}
    seen, queue = {start}, [(start, "")]
    while queue:
        address, origin = queue.pop()
        response = browser.get(address, follow=True)
        assert response.status_code == 200, f"{origin} links to {address}: {response.status_code}"
        if not response["Content-Type"].startswith("text/html"):
            continue  # a file to download
        page = found[address] = Page(response.content.decode())
        base = response.redirect_chain[-1][0] if response.redirect_chain else address
        for link in page.links:
            target = urldefrag(urljoin(f"http://testserver{base}", link)).url
            if not target.startswith("http://testserver/"):
                continue
            path = target.removeprefix("http://testserver")
            if path not in seen and not path.startswith(leave):
                seen.add(path)
                queue.append((path, address))
    return found
