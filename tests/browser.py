"""Headless Chromium for the tests of pages; `.ci/run` installs it."""

import os
import shutil
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # containers have no user namespaces
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--use-angle=swiftshader",  # WebGL without a GPU
    "--enable-unsafe-swiftshader",
    "--window-size=1280,800",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    """A browser window of 1280 x 800; the test is skipped without Chromium, but not in CI."""
    driver = shutil.which("chromedriver")
    if driver is None or shutil.which("chromium") is None:
        if os.environ.get("EMSEG_BROWSER") == "required":
            pytest.fail("chromium and chromedriver are not installed")
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = ChromeOptions()
    for switch in SWITCHES:
        options.add_argument(switch)
    window = Chrome(options=options, service=ChromeService(driver))
    yield window
    window.quit()
