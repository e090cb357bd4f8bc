"""One HTML file that needs nothing else: the style sheet inside, no scripts, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report.markup import Safe, escaped
from pipeline.report.style import CSS

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the findings</a>
{header}
<main id="main">
{sections}
</main>
</body>
</html>
"""


def document(title: str, header: Safe, sections: Sequence[Safe]) -> str:
    """The whole page; `title` is text, `header` and `sections` are markup."""
    return _PAGE.format(title=escaped(title), css=CSS, header=header, sections="\n".join(sections))
