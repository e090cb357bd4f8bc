"""What a reader needs who does not see the page, or not its colours: read from the markup and the style sheet alone."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pipeline.report import plots
from pipeline.report.style import CSS

Element = tuple[str, dict[str, str | None]]


class Elements(HTMLParser):
    """Every element of a page in order, and the attributes of those around it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Element] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, *names: str) -> list[Element]:
        return [element for element in self.found if element[0] in names]


@pytest.fixture(scope="module")
def elements(full: tuple[str, str]) -> Elements:
    return Elements(full[1])


def test_headings_skip_no_level(elements: Elements) -> None:
    levels = [int(name[1]) for name, _ in elements.named("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))


def test_every_picture_says_what_it_shows(elements: Elements) -> None:
    pictures = [attributes for _, attributes in elements.named("img", "svg") if attributes.get("aria-hidden") != "true"]
    assert pictures
    assert all((a.get("alt") or a.get("aria-label") or "").strip() for a in pictures)
    assert all(a.get("role") == "img" for name, a in elements.named("svg") if a.get("aria-hidden") != "true")


def test_every_heading_of_a_table_has_its_scope(elements: Elements) -> None:
    assert {attributes.get("scope") for _, attributes in elements.named("th")} == {"col", "row"}
    assert len(elements.named("thead")) == len(elements.named("table")) == len(elements.named("tbody"))


def test_what_scrolls_is_named_and_reachable(elements: Elements) -> None:
    regions = [a for _, a in elements.found if a.get("class") == "scroll"]
    assert len(regions) == len(elements.named("table"))
    assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in regions)
    assert all(a.get("tabindex") == "0" for _, a in elements.named("pre"))


def test_the_page_has_its_language_and_landmarks(elements: Elements) -> None:
    assert elements.named("html")[0][1]["lang"] == "en"
    assert [len(elements.named(name)) for name in ("header", "main", "nav", "title")] == [1, 1, 1, 1]


# ------------------------------------------------------------------------------------------------------- colours


def variables(dark: bool) -> dict[str, np.ndarray]:
    """{name: linear RGB, 0 to 1} of a colour scheme."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    pairs = re.findall(r"--(\w+): #(\w{6})", blocks[int(dark)])
    return {name: linear(np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255) for name, code in pairs}


def linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    low, high = sorted(float(np.dot(colour, (0.2126, 0.7152, 0.0722))) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_marks_stand_out(dark: bool) -> None:
    """WCAG 2.2, level AA: 4.5 for text, 3 for what has to be seen of a picture."""
    colours = variables(dark)
    for text, ground in itertools.product(("ink", "soft", "warn", "link"), ("bg", "tint")):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for series in range(1, len(plots.SERIES) + 1):
        assert contrast(colours[f"c{series}"], colours["bg"]) >= 3, series


# What is left of linear RGB for eyes without one kind of cone (Viénot, Brettel & Mollon, 1999, over sRGB's primaries).
PROTANOPIA = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear sRGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / to_xyz.sum(axis=1)
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("eyes", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["all", "no red", "no green"])
def test_series_stay_apart_for_colour_blind_eyes(dark: bool, eyes: np.ndarray) -> None:
    """Five just noticeable differences (ΔE of 2.3 each) or more between any two; markers tell them apart, too."""
    colours = variables(dark)
    seen = [lab(eyes @ colours[f"c{i}"]) for i in range(1, len(plots.SERIES) + 1)]
    apart = {(i, j): float(np.linalg.norm(seen[i] - seen[j])) for i, j in itertools.combinations(range(len(seen)), 2)}
    assert min(apart.values()) >= 5 * 2.3, min(apart, key=apart.get)
    assert len(set(plots.MARKERS[: len(plots.SERIES)])) == len(plots.SERIES)
