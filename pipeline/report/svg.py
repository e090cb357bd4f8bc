"""matplotlib's SVG file → an element of the page: its colours CSS variables, its bytes few."""

from __future__ import annotations

import re

from pipeline.report.markup import Safe, escaped

# Stand-ins that matplotlib writes and `_svg` replaces by what the style sheet defines for light and dark.
INK, GRID = "#010101", "#020202"
SERIES = tuple(f"#0{i}0{i}0{i}" for i in range(3, 9))
"""As many series colours as style.py has: --c1 to --c6."""
_VARIABLES = {INK: "currentColor", GRID: "var(--grid)"} | {c: f"var(--c{i})" for i, c in enumerate(SERIES, 1)}

# Of matplotlib's file: descriptions, a style that would reach the whole page, fonts of its own, turns by nothing, and
# patches that cannot be seen.
_UNWANTED = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<metadata>.*?</metadata>",
        r"<!--.*?-->",
        r"<style.*?</style>",
        r"<defs>\s*</defs>",
        r"; font-family: [^;\"]*",
        r' transform="rotate\(-?0 [^"]*"',
        r'<g[^>]*>\s*<path[^>]*style="fill: none; opacity: 0"/>\s*</g>',
    )
)


def inline(text: str, name: str, alt: str) -> Safe:
    """matplotlib's file as an inline element: no prologue, page fonts, CSS colours, ids of its own, and short."""
    text = text[text.index("<svg") :].strip()
    for unwanted in _UNWANTED:
        text = unwanted.sub("", text)
    box = re.search(r'viewBox="[^"]*"', text)
    text = re.sub(r"^<svg[^>]*>", f'<svg {box.group()} role="img" aria-label="{escaped(alt, limit=None)}">', text)
    text = text.replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", text)
    text = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), text)
    text = re.sub(r"\s*\n\s*", lambda m: "" if text[m.start() - 1] == ">" else " ", text)
    return Safe(re.sub("|".join(_VARIABLES), lambda m: _VARIABLES[m[0]], text))
