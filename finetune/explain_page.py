"""The page of an explanation: videos with their evidence, confused labels, and where another transfer differs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.comparison import ClassDifference, Comparison
from finetune.metrics import Confusion
from finetune.predictions import Predictions
from pipeline.report import markup
from pipeline.report.document import document
from pipeline.report.markup import Safe, tag

MAX_ROWS = 30


@dataclass(frozen=True)
class Shown:
    """A row of videos.csv: a test video, what it is taken for, and its pictures."""

    key: str
    uri: str
    """Where the video was read from."""
    chosen: str
    """Why it is shown."""
    label: str
    predicted: str
    score: float
    """Of the predicted label, as the result has it."""
    label_score: float
    """Of its own label."""
    peak_s: float
    """The moment with most evidence for the predicted label."""
    png: str
    mp4: str


def page(
    folder: str,
    scored: Predictions,
    layer: str,
    videos: Sequence[tuple[Shown, bytes]],
    pairs: Sequence[Confusion],
    against: tuple[str, Comparison] | None,
) -> str:
    """One HTML file; the films are beside it.

    Args:
        videos: with their strips (PNG).
        against: folder of another transfer, and this one (the second) compared with it.
    """
    right = int(scored.correct.sum())
    header = tag(
        "header",
        tag("h1", "What the network saw"),
        tag("p", f"{folder}: {right:,} of {len(scored.keys):,} scored test videos are right", class_="sub"),
    )
    sections = [_videos(videos, layer), _pairs(pairs)]
    return document("What the network saw", header, [*sections, *([_compared(*against)] if against else [])])


def _videos(videos: Sequence[tuple[Shown, bytes]], layer: str) -> Safe:
    note = (
        f"Evidence at {layer}: red speaks most for the label, blue little, bare picture not at all or against it. Numbers "
        "are the label's probability in the clips that hold the frame."
    )
    figures = []
    for video, png in videos:
        caption = tag(
            "figcaption",
            tag("b", video.uri.rpartition("/")[2]),
            f" – {video.chosen}. Key: {video.key}. Label: {video.label} ({video.label_score:.2f}). Predicted: {video.predicted} "
            f"({video.score:.2f}), most evidence at {video.peak_s:.2f} s. ",
            tag("a", "film", href=video.mp4),
        )
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        alt = f"Frames of {video.key} and the evidence for {video.predicted}"
        picture = markup.void("img", src=source, alt=alt, style="max-width: 100%; height: auto")
        figures.append(tag("figure", caption, picture))
    return markup.section("videos", "Where it looks", tag("p", note, class_="note"), *figures)


def _pairs(pairs: Sequence[Confusion]) -> Safe:
    rows = [(pair.true, pair.predicted, pair.count, markup.percent(pair.share)) for pair in pairs[:MAX_ROWS]]
    if not rows:
        return markup.section("confusions", "What it confuses", tag("p", "Nothing."))
    table = markup.table(
        ("Label", "Predicted", "Videos", "% of the label's"), rows, label="Most confused labels", align="llrr"
    )
    return markup.section("confusions", "What it confuses", table, _more(pairs, "confusions.csv"))


def _compared(folder: str, found: Comparison) -> Safe:
    won, lost = (sum(getattr(row, name) for row in found.classes) for name in ("won", "lost"))
    summary = (
        f"On the {found.num_videos:,} videos that both scored, top-1 differs by {_with_interval(found)} points: {won:,} are "
        f"right only here, {lost:,} only there. There: {folder}."
    )
    changed = [row for row in found.classes if row.difference or row.top5_difference]
    gains = [row for row in changed if row.difference >= 0][: MAX_ROWS // 2]
    losses = [row for row in changed if row.difference < 0][-(MAX_ROWS // 2) :]
    rows = [
        (
            row.name,
            row.num_videos,
            markup.percent(row.second),
            markup.percent(row.first),
            _with_interval(row),
            markup.points(row.top5_difference),
        )
        for row in (*gains, *losses)
    ]
    headers = ("Label", "Videos", "Top-1 here %", "Top-1 there %", "Top-1 difference", "Top-5 difference")
    table = markup.table(headers, rows, label="Labels that differ most")
    note = (
        f"Intervals (95 %) are of {found.num_resamples:,} resamples of the videos, the same for both: of labels that do not "
        "differ, one in twenty has an interval without zero."
    )
    return markup.section(
        "differences",
        "Where the other differs",
        tag("p", summary),
        table,
        tag("p", note, class_="note"),
        _more(found.classes, "differences.csv"),
    )


def _with_interval(found: Comparison | ClassDifference) -> str:
    low, high = map(markup.points, found.interval)
    return f"{markup.points(found.difference)} ({low} to {high})"


def _more(rows: Sequence[object], file: str) -> Safe:
    return tag("p", "All ", markup.plural(len(rows), "row"), " are in ", tag("a", file, href=file), ".", class_="note")
