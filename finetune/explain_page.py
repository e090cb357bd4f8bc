"""The page of an explanation: videos with their evidence, confused labels, and where another transfer differs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.predictions import Difference, Pair, Scored
from pipeline.report import markup
from pipeline.report.document import document
from pipeline.report.markup import Safe, tag

MAX_ROWS = 30


@dataclass(frozen=True)
class Shown:
    """A row of videos.csv: a test video, what it is taken for, and its pictures."""

    key: str
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


@dataclass(frozen=True)
class Comparison:
    """Two transfers on the videos that both scored."""

    folder: str
    """Of the other one."""
    here: Scored
    there: Scored
    rows: list[Difference]


def page(
    folder: str,
    scored: Scored,
    layer: str,
    videos: Sequence[tuple[Shown, bytes]],
    pairs: Sequence[Pair],
    compared: Comparison | None,
) -> str:
    """One HTML file; the films are beside it. `videos` come with their strips (PNG)."""
    right = int(scored.correct.sum())
    header = tag(
        "header",
        tag("h1", "What the network saw"),
        tag("p", f"{folder}: {right:,} of {len(scored.keys):,} scored test videos are right", class_="sub"),
    )
    sections = [_videos(videos, layer), _pairs(pairs)]
    return document("What the network saw", header, [*sections, *([_compared(compared)] if compared else [])])


def _videos(videos: Sequence[tuple[Shown, bytes]], layer: str) -> Safe:
    note = (
        f"Evidence at {layer}: red speaks most for the label, blue little, bare picture not at all or against it. Numbers "
        "are the label's probability in the clips that hold the frame."
    )
    figures = []
    for video, png in videos:
        caption = tag(
            "figcaption",
            tag("b", video.key),
            f" – {video.chosen}. Label: {video.label} ({video.label_score:.2f}). Predicted: {video.predicted} "
            f"({video.score:.2f}), most evidence at {video.peak_s:.2f} s. ",
            tag("a", "film", href=video.mp4),
        )
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        alt = f"Frames of {video.key} and the evidence for {video.predicted}"
        picture = markup.void("img", src=source, alt=alt, style="max-width: 100%; height: auto")
        figures.append(tag("figure", caption, picture))
    return markup.section("videos", "Where it looks", tag("p", note, class_="note"), *figures)


def _pairs(pairs: Sequence[Pair]) -> Safe:
    rows = [(pair.label, pair.predicted, pair.videos, markup.percent(pair.share)) for pair in pairs[:MAX_ROWS]]
    if not rows:
        return markup.section("confusions", "What it confuses", tag("p", "Nothing."))
    table = markup.table(
        ("Label", "Predicted", "Videos", "% of the label's"), rows, label="Most confused labels", align="llrr"
    )
    return markup.section("confusions", "What it confuses", table, _more(pairs, "confusions.csv"))


def _compared(compared: Comparison) -> Safe:
    here, there = compared.here.correct, compared.there.correct
    summary = (
        f"On the {len(here):,} videos that both scored: right in both {int((here & there).sum()):,}, only here "
        f"{int((here & ~there).sum()):,}, only there {int((~here & there).sum()):,}, in neither "
        f"{int((~here & ~there).sum()):,}. There: {compared.folder}."
    )
    changed = [row for row in compared.rows if row.top1_difference or row.top5_difference]
    gains = [row for row in changed if row.top1_difference >= 0][: MAX_ROWS // 2]
    losses = [row for row in changed if row.top1_difference < 0][-(MAX_ROWS // 2) :]
    rows = [
        (
            row.label,
            row.videos,
            markup.percent(row.top1),
            markup.percent(row.top1_against),
            markup.points(row.top1_difference),
            markup.points(row.top5_difference),
        )
        for row in (*gains, *losses)
    ]
    headers = ("Label", "Videos", "Top-1 here %", "Top-1 there %", "Top-1 difference", "Top-5 difference")
    table = markup.table(headers, rows, label="Labels that differ most")
    return markup.section(
        "differences", "Where the other differs", tag("p", summary), table, _more(compared.rows, "differences.csv")
    )


def _more(rows: Sequence[object], file: str) -> Safe:
    return tag("p", "All ", markup.plural(len(rows), "row"), " are in ", tag("a", file, href=file), ".", class_="note")
