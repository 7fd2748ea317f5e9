"""Makes the pictures of page and report in `docs/`, of the run that `make demo` has left.

    python tests/pictures.py --convergd target/release/convergd --run demo-run

They are taken with Debian's Chromium; look at them before they are committed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60
"""Seconds."""


def main() -> None:
    """Take both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--convergd", type=Path, required=True, help="the binary")
    parser.add_argument("--run", type=Path, default=ROOT / "demo-run")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    program = shutil.which("chromium") or sys.exit("there is no chromium: `make chromium`")
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=options)
        config, log = Path(directory, "demo.yaml"), Path(directory, "log")
        text = (ROOT / "config/demo.yaml").read_text(encoding="utf-8")
        text = text.replace("../demo-run", str(arguments.run.resolve()))
        # The run is over, and served for as long as this takes.
        text = text.replace("listen: 127.0.0.1:0", "grace: 10m\n  listen: 127.0.0.1:0")
        config.write_text(text, encoding="utf-8")
        with served(arguments.convergd.resolve(), config, log) as address:
            picture(browser, address, arguments.out / "page.png", 1050)
        report = Path(directory, "report.html")
        command = [arguments.convergd.resolve(), "report", "-c", config, "-o", report]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        picture(browser, report.as_uri(), arguments.out / "report.png", 1030)
        browser.close()


@contextlib.contextmanager
def served(convergd: Path, config: Path, log: Path) -> Iterator[str]:
    """The address of the page."""
    with open(log, "wb") as output:
        process = subprocess.Popen([convergd, "run", "-c", config], stdout=output, stderr=output)
    try:
        ends = time.monotonic() + PATIENCE
        while not (told := re.search(r"address=(\S+)", log.read_text(encoding="utf-8"))):
            if process.poll() is not None or time.monotonic() > ends:
                sys.exit(f"no page:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.05)
        yield f"http://{told[1]}/"
    finally:
        process.terminate()
        process.wait()


def picture(browser: Browser, address: str, out: Path, height: int) -> None:
    """The top of a page on a screen of usual width."""
    page = browser.new_page(viewport={"width": 1120, "height": height})
    page.goto(address)
    if address.startswith("http"):
        page.locator("[data-connection=live]").wait_for()
    page.screenshot(path=out)
    page.close()


if __name__ == "__main__":
    main()
