"""A page as its readers see it: in headless Chromium, from disk, on a desktop and a phone, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PHONE, DESK = 390, 1280  # pixels
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
Scheme = Literal["light", "dark"]
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass
class Findings:
    """Faults of a page, as text; all empty if there is none.

    Attributes:
        console: errors and warnings of the console.
        requests: addresses that the page requested, other than itself and its embedded content.
        pictures: pictures that do not show, or have no alternative text.
        scroll: widths at which the page scrolls sideways.
        accessibility: findings of axe-core, light and dark.
    """

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    scroll: list[str] = field(default_factory=list)
    accessibility: list[str] = field(default_factory=list)

    def all(self) -> list[str]:
        """Everything."""
        return [said for found in vars(self).values() for said in found]


def chromium() -> str | None:
    """The path of Chromium on this machine, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def opened(page: Path, findings: Findings, width: int = DESK, scheme: Scheme = "light") -> Iterator[Any]:
    """The page in a browser without a network; faults while loading are collected.

    Args:
        page: an HTML file.
        findings: receives console messages and requests.
        width: of the window in pixels.
        scheme: light or dark.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(OPTIONS))
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        tab.on(
            "console", lambda said: findings.console.append(said.text) if said.type in ("error", "warning") else None
        )
        tab.on("pageerror", lambda error: findings.console.append(str(error)))
        tab.on("request", lambda asked: findings.requests.append(asked.url))
        address = page.resolve().as_uri()
        tab.goto(address)
        findings.requests[:] = [url for url in findings.requests if url != address and not url.startswith("data:")]
        yield tab
        browser.close()


def checked(page: Path) -> Findings:
    """Check a page for all kinds of `Findings`."""
    from axe_playwright_python.sync_playwright import Axe

    findings = Findings()
    seen: tuple[tuple[int, Scheme], ...] = ((DESK, "light"), (PHONE, "dark"))
    for width, scheme in seen:
        with opened(page, findings, width, scheme) as tab:
            wide = tab.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                findings.scroll.append(f"at {width} pixels the page is {wide} wide")
            findings.pictures += tab.evaluate(
                "[...document.images].filter(i => !(i.complete && i.naturalWidth && i.alt))"
                ".map(i => i.getAttribute('src').slice(0, 60))"
            )
            findings.pictures += tab.evaluate(
                "[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().height < 20)"
                ".map(s => s.outerHTML.slice(0, 60))"
            )
            options = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]}
            for each in Axe().run(tab, options=options).response["violations"]:
                first = each["nodes"][0]["html"][:120]
                findings.accessibility.append(f"{scheme}: {each['id']}, {len(each['nodes'])} times, first {first}")
    return findings
