"""What the browser tests watch for: faults on the way, and what axe finds."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, Response

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


LOG_VIOLATIONS = """document.addEventListener('securitypolicyviolation',
    event => console.error('CSP', event.violatedDirective, event.blockedURI))"""


class Watch:
    """What went wrong in the browser; a test that expects an answer of 400 or more says so."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.expected: set[int] = set()

    def console(self, message: ConsoleMessage) -> None:
        """Keep errors, policy violations among them; failed answers are kept by ``response``."""
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.faults.append(message.text)

    def response(self, response: Response) -> None:
        """Keep answers that are errors."""
        if response.status >= 400 and response.status not in self.expected:
            self.faults.append(f"{response.status} {response.url}")


def accessibility_faults(page: Page) -> list[str]:
    """Return what axe finds on the page as it stands."""
    options = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]}
    return [
        f"{page.url} {fault['id']}: {[node['html'][:160] for node in fault['nodes']][:4]}"
        for fault in Axe().run(page, options=options).response["violations"]
    ]
