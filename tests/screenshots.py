"""Pictures of a report as readers see it, for the documents: `python -m tests.screenshots REPORT.html [FOLDER]`."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.browser import Page, browser, find

MAX_BYTES = 300_000


@dataclass(frozen=True)
class Shot:
    name: str
    width_px: int
    height_px: int
    dark: bool = False


SHOTS = (Shot("report", 1080, 1000), Shot("report-dark", 1080, 1000, dark=True), Shot("report-phone", 390, 1500))


def take(page: Path, folder: Path, shots: tuple[Shot, ...] = SHOTS, scale: float = 1.5, top: str = "h1") -> list[Path]:
    """Write one PNG a shot, from the element `top` (a CSS selector) down; returns their paths."""
    program = find()
    if program is None:
        raise SystemExit("no Chromium or Chrome on the path (TAGREEL_BROWSER names one)")
    with browser(program) as running:
        view = Page(running)
        return [_write(view, page, shot, folder / f"{shot.name}.png", scale, top) for shot in shots]


def _write(view: Page, page: Path, shot: Shot, path: Path, scale: float, top: str) -> Path:
    view.show(shot.width_px, dark=shot.dark, scale=scale)
    view.open(page)
    start = view.evaluate(f"document.querySelector({top!r}).getBoundingClientRect().top + scrollY")
    path.write_bytes(small_png(view.screenshot(max(0, start - 24), shot.height_px)))
    return path


def small_png(png: bytes) -> bytes:
    """The same picture in at most MAX_BYTES: as it is, else with so few colours (a page of text and lines has not many)."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (None, 256, 64, 16):
        reduced = (
            picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE) if colours else picture
        )
        buffer = io.BytesIO()
        reduced.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    return buffer.getvalue()


if __name__ == "__main__":
    for written in take(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs")):
        print(written)
