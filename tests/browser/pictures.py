"""Takes the README's pictures: ``make pictures``.

The demo is served from a data folder of its own, which is deleted afterwards. What a cluster would
have told about its namespace is written by hand, since the demo has no cluster.
"""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.servers import running
from tests.support import ROOT
from tests.support.servers import free_port

FOLDER = ROOT / "docs" / "pictures"
#: Names of the pictures, the pages that they show, and how much of them, in CSS pixels.
PAGES = {"models": ("/t/team_gamma/models/", 700), "isolation": ("/t/team_gamma/isolation/", 1180)}
THEMES = ("light", "dark")
MAX_BYTES = 100 * 1024
#: As many palette colours as fit into MAX_BYTES are kept, from the left.
COLOURS = (256, 128, 64, 32)
WIDTH, SCALE = 1200, 1.5
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> None:
    """Serve the demo, take each picture, say how large it is."""
    if sys.argv[1:] == ["look"]:
        look()
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with demo() as (address, password), sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        page = browser.new_page(device_scale_factor=SCALE)
        sign_in(page, address, password)
        for theme in THEMES:
            page.context.add_cookies([{"name": "theme", "value": theme, "url": address}])
            for name, (path, height) in PAGES.items():
                page.set_viewport_size({"width": WIDTH, "height": height})
                page.goto(f"{address}{path}")
                page.wait_for_load_state("networkidle")
                picture = smaller(page.screenshot())
                file = FOLDER / f"{name}-{theme}.png"
                file.write_bytes(picture)
                sys.stdout.write(f"{file.relative_to(ROOT)}: {len(picture) / 1024:.0f} KiB\n")
        browser.close()


@contextmanager
def demo() -> Iterator[tuple[str, str]]:
    """Serve a fresh demo while the block runs; give its address and its password."""
    data = Path(os.environ.get("DATA_DIR") or ROOT / "var").resolve()
    data.mkdir(parents=True, exist_ok=True)
    port, password = free_port(), secrets.token_urlsafe(12)
    with TemporaryDirectory(prefix="pictures-", dir=data) as folder:
        environment = fresh_machine() | {
            "DATA_DIR": str(Path(folder, "data")),
            "BULKHEAD_DEMO_PASSWORD": password,
            "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
            "DJANGO_SETTINGS_MODULE": "bulkhead.settings",
        }
        serve = [sys.executable, "manage.py", "serve", "--demo", f"--port={port}", "--workers=1"]
        address = f"http://127.0.0.1:{port}"
        with running(serve, environment, f"{address}/healthz", Path(folder, "log")):
            told = [sys.executable, "-m", "tests.browser.pictures", "look"]
            subprocess.run(told, cwd=ROOT, env=environment, check=True)
            yield address, password


def fresh_machine() -> dict[str, str]:
    """Return the environment without the settings of an installation that is here."""
    ours = ("DATABASE_", "BULKHEAD_", "DJANGO_", "AWS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def look() -> None:
    """Write what a cluster would have told: all in sync, and some of the quota used."""
    import django

    django.setup()
    from tenants.models import Tenant
    from tests.support.states import looked, quota_of

    team = Tenant.objects.get(slug="team_gamma")
    used = {
        "pods": "68",
        "requests.cpu": "46500m",
        "limits.cpu": "84",
        "requests.memory": "168Gi",
        "limits.memory": "240Gi",
        "requests.ephemeral-storage": "60Gi",
        "limits.ephemeral-storage": "90Gi",
        "requests.nvidia.com/gpu": "5",
        "requests.storage": "2100Gi",
        "persistentvolumeclaims": "31",
        "services": "24",
        "count/secrets": "86",
        "count/configmaps": "57",
        "count/deployments.apps": "22",
        "count/replicasets.apps": "140",
        "count/jobs.batch": "35",
        "count/cronjobs.batch": "12",
    }
    looked(team, cluster="production", quota=quota_of(team, **used))


def chromium() -> str:
    """Return the system's Chromium; raises SystemExit where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SystemExit("The pictures need Chromium: please install it.")
    return found


def sign_in(page: Page, address: str, password: str) -> None:
    """Sign hugo in, the team's admin."""
    page.goto(f"{address}/sign-in/")
    page.get_by_label("User name or e-mail").fill("hugo")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for(state="attached")


def smaller(screenshot: bytes) -> bytes:
    """Return the picture with a palette, within MAX_BYTES; raises SystemExit if none is."""
    whole = Image.open(BytesIO(screenshot)).convert("RGB")
    for colours in COLOURS:
        written = BytesIO()
        whole.quantize(colours, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
        if written.tell() < MAX_BYTES:
            return written.getvalue()
    raise SystemExit(f"The picture is larger than {MAX_BYTES // 1024} KiB: make it smaller.")


if __name__ == "__main__":
    main()
