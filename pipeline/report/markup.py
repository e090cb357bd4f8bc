"""HTML from Python values. Every string is escaped unless it is `Safe`; only this module makes markup out of text."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

MAX_TEXT = 1000
"""Characters of one piece of text; a longer one is cut, so that no name can blow up the page."""

# Controls (but tab and newline), lone surrogates, zero-width spaces and bidirectional marks: they hide or
# reorder what is read. The joiners of Indic scripts and emoji stay.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


class Safe(str):
    """Markup: text that has been escaped already."""

    __slots__ = ()


def clean(text: str) -> str:
    """Text without characters that hide or reorder others; each becomes the replacement character."""
    return _UNSEEN.sub("\ufffd", text)


def escaped(value: Any, limit: int | None = MAX_TEXT) -> Safe:
    """Any value as markup."""
    if isinstance(value, Safe):
        return value
    text = clean(str(value))
    if limit and len(text) > limit:
        text = text[:limit] + "…"
    return Safe(html.escape(text, quote=True))


def join(*children: Any) -> Safe:
    return Safe("".join(escaped(child) for child in children if child is not None))


def tag(name: str, *children: Any, **attributes: Any) -> Safe:
    """An element. `class_` is class, `aria_label` is aria-label; an attribute of None is left out."""
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    opening = "".join(f' {key}="{escaped(value, limit=None)}"' for key, value in pairs)
    return Safe(f"<{name}{opening}>{join(*children)}</{name}>")


def void(name: str, **attributes: Any) -> Safe:
    """An element without content, such as img."""
    return Safe(tag(name, **attributes).removesuffix(f"</{name}>"))


def table(headers: Sequence[Any], rows: Sequence[Sequence[Any]], *, label: str, align: str = "") -> Safe:
    """A table that scrolls sideways by itself.

    Args:
        label: what it shows, for screen readers.
        align: one letter per column: l text, r number, c code; missing ones are numbers, but the first is text.
    """
    align = (align + "l")[:1] + (align[1:] or "").ljust(len(headers), "r")
    kinds = [{"l": None, "r": "number", "c": "code"}[letter] for letter in align[: len(headers)]]
    head = tag("tr", *(tag("th", h, scope="col", class_=k) for h, k in zip(headers, kinds, strict=True)))
    body = (tag("tr", tag("th", row[0], scope="row"), *map(_cell, row[1:], kinds[1:])) for row in rows)
    content = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


def _cell(value: Any, kind: str | None) -> Safe:
    return tag("td", "–" if value is None else value, class_=kind)


def section(anchor: str, title: str, *children: Any) -> Safe:
    return tag("section", tag("h2", title, id=anchor), *children)


def details(summary: Any, *children: Any, **attributes: Any) -> Safe:
    return tag("details", tag("summary", summary), *children, **attributes)


def pre(text: str) -> Safe:
    return tag("pre", escaped(text, limit=None), tabindex="0")


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


# --------------------------------------------------------------------------------------------- numbers as text


def percent(share: float | None) -> str | None:
    """0.7125 → "71.2" (the unit stands in the header)."""
    return None if share is None else f"{100 * share:.1f}"


def points(difference: float | None) -> str | None:
    """0.0312 → "+3.1", with a true minus sign."""
    return None if difference is None else f"{round(100 * difference, 1) + 0.0:+.1f}".replace("-", "−")


def span(interval: tuple[float, float] | None) -> str | None:
    return None if interval is None else f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f}"


def points_span(interval: tuple[float, float] | None) -> str | None:
    return None if interval is None else f"{points(interval[0])} to {points(interval[1])}"


def size(count: int) -> str:
    """1500000 → "1.5M"; exact counts below 10,000 keep their digits."""
    for unit, suffix in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= unit and (count >= 10_000 or count % unit == 0):
            return f"{count / unit:.1f}".removesuffix(".0") + suffix
    return str(count)


def value(thing: Any) -> Any:
    """A JSON value as cell text: counts with separators, shares and rates with four digits."""
    if isinstance(thing, bool) or thing is None:
        return {True: "yes", False: "no", None: None}[thing]
    if isinstance(thing, int):
        return f"{thing:,}"
    return f"{thing:.4g}" if isinstance(thing, float) else thing
