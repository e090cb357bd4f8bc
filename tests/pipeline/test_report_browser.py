"""The report as a browser shows it: complete, quiet, legible on any screen and on paper. Skipped where there is no browser."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import browser
from tests.browser import Page

WIDTHS = (390, 1280)
OPEN_ALL = "document.querySelectorAll('details').forEach(each => each.open = true)"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium or Chrome on the path (TAGREEL_BROWSER names one)")
    with browser.browser(program) as running:
        yield Page(running)


@pytest.fixture(scope="module")
def report_path(full: tuple[str, str]) -> Path:
    return Path(full[0], "report.html")


def test_nothing_is_fetched_and_nothing_complains(page: Page, report_path: Path) -> None:
    page.show(1280)
    events = page.open(report_path)
    page.evaluate("new Promise(done => setTimeout(done, 100))")  # late complaints
    events += page.browser.events
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {report_path.resolve().as_uri()}
    told = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert [e["params"] for e in events if e["method"] in told] == []


def test_every_picture_is_there(page: Page, report_path: Path) -> None:
    page.show(1280)
    page.open(report_path)
    page.evaluate(OPEN_ALL)
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    sizes = "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
    assert min(page.evaluate(sizes)) > 0
    drawn = page.evaluate("[...document.querySelectorAll('svg')].map(s => [s.getBBox().width, s.clientWidth])")
    assert drawn
    assert all(width > 0 and shown > 0 for width, shown in drawn)


@pytest.mark.parametrize("width_px", WIDTHS)
def test_the_page_never_scrolls_sideways(page: Page, report_path: Path, width_px: int) -> None:
    """Tables and code do, by themselves, even when every name in them is long."""
    page.show(width_px)
    page.open(report_path)
    page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth") == width_px
    wide = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, svg, .skip')"
    over = page.evaluate(
        f"{wide} && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"
    )
    assert over == []


def test_the_first_column_stays_while_a_table_scrolls(page: Page, report_path: Path) -> None:
    page.show(390)
    page.open(report_path)
    left = page.evaluate("""(() => {
      const region = document.querySelector('#provenance ~ .scroll');
      region.scrollLeft = 200;
      const place = e => e.getBoundingClientRect().left;
      return [region.scrollLeft, place(region), ...[...region.querySelectorAll('th:first-child')].map(place)];
    })()""")
    scrolled, region, *heads = left
    assert scrolled == 200
    assert heads == [region] * len(heads)


# Every text colour on the page with the background behind it, as sRGB 0–255 and a share of cover, largest text first.
_TEXTS = """(() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data]; };
  const found = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement, style = getComputedStyle(parent);
    if (!walker.currentNode.textContent.trim() || !parent.checkVisibility()) continue;
    let ground = [0, 0, 0, 0], opacity = 1;
    for (let e = parent; e; e = e.parentElement) {
      const own = getComputedStyle(e);
      opacity *= parseFloat(own.opacity);
      if (ground[3] === 0) ground = rgba(own.backgroundColor);
    }
    const ink = rgba(parent.closest('svg') ? style.fill : style.color), key = [ink, ground, opacity].join();
    found[key] ??= [ink, ground, opacity, parent.outerHTML.slice(0, 90)];
  }
  return Object.values(found);
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out_from_its_background(page: Page, report_path: Path, dark: bool) -> None:
    page.show(1280, dark=dark)
    page.open(report_path)
    page.evaluate(OPEN_ALL)
    texts = page.evaluate(_TEXTS)
    assert len(texts) >= 4  # plain, soft, links, warnings
    assert (sum(texts[0][1][:3]) < 3 * 64) == dark
    weak = [text for ink, ground, opacity, text in texts if ratio(ink, ground) < 4.5 or ink[3] < 255 or opacity < 1]
    assert weak == []


def ratio(one: list[float], other: list[float]) -> float:
    """Contrast of two sRGB colours, 1 to 21 (WCAG 2.2, "contrast ratio" and "relative luminance")."""

    def luminance(colour: list[float]) -> float:
        shares = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return 0.2126 * shares[0] + 0.7152 * shares[1] + 0.0722 * shares[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_letters_of_pictures_are_legible_on_a_phone(page: Page, report_path: Path) -> None:
    page.show(390)
    page.open(report_path)
    page.evaluate(OPEN_ALL)
    heights = page.evaluate("""[...document.querySelectorAll('svg text')].map(text =>
      parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getScreenCTM().b, text.getScreenCTM().d))""")
    assert heights
    assert min(heights) >= 9


def test_the_page_is_the_same_without_scripts(page: Page, report_path: Path) -> None:
    page.show(1280)
    pictures = []
    for scripts in (True, False):
        page.open(report_path, scripts=scripts)
        pictures.append(page.screenshot(height_px=4000))
    assert pictures[0] == pictures[1]


def test_a_number_leads_to_its_provenance(page: Page, report_path: Path) -> None:
    page.show(390)
    page.open(report_path)
    row = "document.querySelector('#provenance ~ .scroll tbody a')"
    link = page.evaluate(f"{row}.click() || {row}.getAttribute('href')")
    shown = page.evaluate(f"document.querySelector('{link} pre').getBoundingClientRect().height")
    top = page.evaluate(f"document.querySelector('{link}').getBoundingClientRect().top")
    assert shown > 0
    assert 0 <= top < 900


def test_the_table_in_the_page_is_the_table_beside_it(page: Page, report_path: Path) -> None:
    page.open(report_path)
    link = page.evaluate("document.querySelector('a[download]').href")
    assert base64.b64decode(link.split(",", 1)[1]) == report_path.with_name("results.csv").read_bytes()
    assert (
        page.evaluate("document.querySelector('a[href=\"results.csv\"]').href")
        == report_path.with_name("results.csv").as_uri()
    )


def test_everything_that_scrolls_can_be_reached_by_key(page: Page, report_path: Path) -> None:
    page.show(390)
    page.open(report_path)
    page.evaluate(OPEN_ALL)
    unreachable = page.evaluate("""[...document.querySelectorAll('body *')].filter(e =>
      ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth && e.tabIndex < 0).length""")
    assert unreachable == 0
    page.evaluate("document.querySelector('.scroll').focus({focusVisible: true})")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_on_paper_the_page_is_light_and_nothing_is_cut(page: Page, report_path: Path) -> None:
    page.show(680, dark=True, media="print")  # as wide as A4 between its margins
    page.open(report_path)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor").removeprefix("rgb(").removesuffix(")")
    assert ratio([float(c) for c in ground.split(",")], [255, 255, 255]) < 1.1
    cut: list[Any] = page.evaluate("""[...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility() &&
      e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel + ' ' + e.scrollWidth)""")
    assert cut == []
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_nothing_moves(page: Page, report_path: Path) -> None:
    page.open(report_path)
    moving = "[...document.querySelectorAll('*')].map(e => getComputedStyle(e)).filter(s => "
    assert page.evaluate(f"{moving} s.animationName !== 'none' || s.scrollBehavior === 'smooth' "
                         "|| parseFloat(s.transitionDuration) > 0).length") == 0  # fmt: skip
