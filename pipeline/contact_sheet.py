"""Frames of videos side by side in one picture (Pillow)."""

from __future__ import annotations

import functools
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP_PX, MARGIN_PX = 2, 14
FONT_PX, LINE_PX = 13, 18
PAPER, INK, BLANK = (253, 253, 252), (27, 31, 35), (228, 231, 234)


@dataclass(frozen=True)
class Strip:
    """Frames in a row and the lines of text below them."""

    frames: np.ndarray | None
    """uint8 [T, H, W, 3] RGB; None leaves the place blank."""
    lines: tuple[str, ...]


def contact_sheet(strips: Sequence[Strip], *, columns: int, frames_per_strip: int, frame_px: tuple[int, int]) -> bytes:
    """A PNG of the strips, row by row; the same strips give the same bytes.

    Args:
        frames_per_strip: places for frames in a strip; one with fewer frames leaves places blank.
        frame_px: width and height of a place; frames are scaled into it with their aspect kept.
    """
    width = frames_per_strip * (frame_px[0] + GAP_PX) - GAP_PX
    height = frame_px[1] + LINE_PX * max(len(strip.lines) for strip in strips) + GAP_PX
    columns = min(columns, len(strips))
    rows = -(-len(strips) // columns)
    size = (columns * (width + MARGIN_PX) + MARGIN_PX, rows * (height + MARGIN_PX) + MARGIN_PX)
    sheet = Image.new("RGB", size, PAPER)
    for i, strip in enumerate(strips):
        left = MARGIN_PX + i % columns * (width + MARGIN_PX)
        top = MARGIN_PX + i // columns * (height + MARGIN_PX)
        _paint_frames(sheet, strip, left, top, frames_per_strip, frame_px)
        _write_lines(sheet, strip.lines, left, top + frame_px[1] + GAP_PX, width)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _paint_frames(
    sheet: Image.Image, strip: Strip, left: int, top: int, places: int, frame_px: tuple[int, int]
) -> None:
    draw = ImageDraw.Draw(sheet)
    for place in range(places):
        x = left + place * (frame_px[0] + GAP_PX)
        draw.rectangle((x, top, x + frame_px[0] - 1, top + frame_px[1] - 1), fill=BLANK)
        if strip.frames is not None and place < len(strip.frames):
            picture = _fitted(Image.fromarray(strip.frames[place]), frame_px)
            shift = [(place_px - px) // 2 for place_px, px in zip(frame_px, picture.size, strict=True)]
            sheet.paste(picture, (x + shift[0], top + shift[1]))


def _fitted(picture: Image.Image, frame_px: tuple[int, int]) -> Image.Image:
    scale = min(frame_px[0] / picture.width, frame_px[1] / picture.height)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def _write_lines(sheet: Image.Image, lines: Sequence[str], left: int, top: int, width: int) -> None:
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        text = drawable(line)
        while text != "..." and draw.textlength(text, _font()) > width:
            text = text.removesuffix("...")[:-1] + "..."
        draw.text((left, top + i * LINE_PX), text, INK, _font())


def drawable(text: str) -> str:
    """One line of what the built-in font has: other letters lose their accents or, if that is not enough, become "?"."""
    return "".join(next(filter(_has_glyph, _alternatives(character)), "?") for character in " ".join(text.split()))


def _alternatives(character: str) -> tuple[str, str]:
    return character, unicodedata.normalize("NFKD", character)[0]


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(FONT_PX)


@functools.cache
def _has_glyph(character: str) -> bool:
    return character == " " or (character.isprintable() and _drawn(character) != _drawn("\uffff"))


def _drawn(character: str) -> tuple[tuple[int, int], list[int]]:
    """Size and pixels of a character; those that the font lacks all look alike."""
    mask = _font().getmask(character)
    return mask.size, list(mask)
