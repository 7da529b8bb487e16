"""A real Chromium that opens pages from the disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

CHROMIUM, DRIVER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"),
    shutil.which("chromedriver"),
)


def chromium() -> Iterator:
    """Selenium's driver of one without a window."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def find(browser, css: str):
    from selenium.webdriver.common.by import By

    return browser.find_elements(By.CSS_SELECTOR, css)


def awaited(browser, css: str, text: str = "") -> None:
    """Until something of that kind is there, with that text in it."""
    until = time.monotonic() + 20
    while not any(text in element.text for element in find(browser, css)):
        assert time.monotonic() < until, f"no {css} with {text!r}"
        time.sleep(0.05)


def opened(browser, path: Path, where: str = "") -> None:
    """A report, once its first dialogue is on the page."""
    browser.get("about:blank")
    browser.get(path.resolve().as_uri() + where)
    awaited(browser, "#talk .line")
