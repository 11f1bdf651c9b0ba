"""A browser draws the page of a report without a network, in light and in dark."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from fanout.report.drawing import COLOURS
from tests.browser import find_browser, open_page
from tests.unit.reports import make_report

WIDTH, HEIGHT = 1000, 1600

SCHEMES = {"light": (1, "#ffffff"), "dark": (0, "#15181c")}
"""Name of a scheme -> Chromium's number for it, and the background of the page."""


@pytest.fixture(scope="module")
def browser() -> str:
    return find_browser()


def _open(browser: str, page: Path, scheme: str, *options: str) -> str:
    """Open a page without a network, draw it until nothing is left to do, and return what the browser prints."""
    return open_page(
        browser,
        page.as_uri(),
        page.parent / "profile",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme][0]}",
        f"--window-size={WIDTH},{HEIGHT}",
        *options,
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_browser_draws_a_page(browser: str, tmp_path: Path, scheme: str) -> None:
    """The picture has the scheme's background, and bars of each kind in their colours."""
    page = make_report([0.5] * 100 + [30.0], workers=3, setup_s=5.0, join_s=5.0).save(tmp_path / "report.html")
    picture = tmp_path / "report.png"
    _open(browser, page, scheme, f"--screenshot={picture}")
    with Image.open(picture) as image:
        assert image.size == (WIDTH, HEIGHT)
        counted = image.convert("RGB").getcolors(WIDTH * HEIGHT) or []
    pixels = Counter({colour: count for count, colour in counted})
    ground = pixels[_rgb(SCHEMES[scheme][1])]
    assert ground > WIDTH * HEIGHT / 2
    drawn = {kind: pixels[_rgb(COLOURS[kind])] for kind in ("ran", "straggler", "setup", "join")}
    assert all(count > 500 for count in drawn.values()), drawn


def test_a_page_paints_its_charts(browser: str, tmp_path: Path) -> None:
    """The script of the page ends without an error, after it has painted the charts of 50,000 chunks."""
    page = make_report([0.1] * 50_000, workers=40, batch=32).save(tmp_path / "report.html")
    printed = _open(browser, page, "dark", "--dump-dom")
    root = printed[printed.index("<html") : printed.index(">", printed.index("<html"))]
    assert 'data-painted="dark"' in root
    assert "data-error" not in root


def _rgb(colour: str) -> tuple[int, ...]:
    return ImageColor.getrgb(colour)
