"""The page of `tagreel labels`: Figure 3, the numbers of every label space, and the overlap with targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dataset_builder.dataset_labels import DatasetLabels
from dataset_builder.label_overlap import LabelOverlap
from dataset_builder.label_statistics import cumulative_distribution
from pipeline.report import plots
from pipeline.report.document import document
from pipeline.report.markup import Safe, details, join, percent, plural, section, table, tag

Overlaps = Mapping[tuple[str, str], LabelOverlap]

MAX_ROWS = 200
CSS_DASHES = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dashed"}


def render(datasets: Sequence[DatasetLabels], overlaps: Overlaps) -> str:
    """The whole page; `overlaps` by (dataset, target)."""
    names = ", ".join(dataset.name for dataset in datasets)
    about = f"{plural(len(datasets), 'dataset')} · videos are counted once for each of their labels"
    header = tag("header", tag("h1", f"Label spaces: {names}"), tag("p", about, class_="sub"))
    sections = [_distribution_section(datasets), _numbers_section(datasets)]
    if overlaps:
        sections.append(_overlap_section(overlaps))
    sections.append(_labels_section(datasets))
    return document(f"Label spaces: {names}", header, sections)


# ------------------------------------------------------------------------------------------------- distribution


def _distribution_section(datasets: Sequence[DatasetLabels]) -> Safe:
    """The paper's Figure 3, all datasets in one plot."""
    lines = [cumulative_distribution(np.array(list(dataset.labels.values()), np.int64)) for dataset in datasets]
    alt = "Cumulative distribution of the videos over the labels, one line per dataset."
    keys = tag("p", *(_key(i, dataset.name) for i, dataset in enumerate(datasets)), _equal_key())
    intro = (
        "Labels stand in order of their videos, those with most first; the axis is divided by their number. The further"
    )
    return section(
        "distribution",
        "Cumulative distribution of videos per label",
        tag("p", f"{intro} a line bends from the diagonal, the more of the videos belong to few labels."),
        tag("figure", tag("figcaption", keys), plots.cumulative("c", alt, lines), class_="wide"),
    )


def _key(index: int, name: str) -> Safe:
    dash = CSS_DASHES[plots.series_style(index)[1]]
    return tag("span", name, class_="key line", style=f"--k:var(--c{index % len(plots.SERIES) + 1});--d:{dash}")


def _equal_key() -> Safe:
    return tag("span", "all labels equal", class_="key line", style="--k:var(--soft);--d:dotted")


# ------------------------------------------------------------------------------------------------------ numbers

_QUANTITIES: tuple[tuple[str, Callable[[DatasetLabels], str | None]], ...] = (
    ("kind", lambda d: d.kind),
    ("videos", lambda d: f"{d.num_videos:,}"),
    ("labels", lambda d: f"{d.statistics.num_labels:,}"),
    ("labels without a stored video", lambda d: f"{d.statistics.labels_without_video:,}"),
    ("videos per label: fewest", lambda d: f"{d.statistics.fewest:,}"),
    ("videos per label: median", lambda d: f"{d.statistics.median:,.1f}"),
    ("videos per label: mean", lambda d: f"{d.statistics.mean:,.1f}"),
    ("videos per label: most", lambda d: f"{d.statistics.most:,}"),
    ("share of the top 1 % of labels (%)", lambda d: percent(d.statistics.head_share_1)),
    ("share of the top 10 % of labels (%)", lambda d: percent(d.statistics.head_share_10)),
    ("share of the bottom half of labels (%)", lambda d: percent(d.statistics.tail_share_50)),
    ("entropy (bits)", lambda d: f"{d.statistics.entropy_bits:.3f}"),
    ("entropy, 1 = equal labels", lambda d: _optional(d.statistics.normalised_entropy)),
    ("effective number of labels", lambda d: f"{d.statistics.effective_labels:,.1f}"),
    ("Gini coefficient, 0 = equal labels", lambda d: f"{d.statistics.gini:.3f}"),
    ("labels per video: mean", lambda d: f"{d.statistics.num_pairs / d.num_videos:.3f}"),
    ("labels per video: most", lambda d: f"{max(d.labels_per_video):,}"),
    ("videos with several labels (%)", lambda d: percent(1 - d.labels_per_video.get(1, 0) / d.num_videos)),
    ("seed or base labels", lambda d: f"{d.label_space['in']:,}"),
    ("dropped: no video", lambda d: _dropped(d, "no_video")),
    ("dropped: fewer videos than the floor", lambda d: _dropped(d, "few_videos")),
    ("dropped: not drawn", lambda d: _dropped(d, "not_drawn")),
    ("floor (videos)", lambda d: f"{d.min_videos:,}"),
    ("seed labels that matched nothing", lambda d: None if d.num_unused_labels is None else f"{d.num_unused_labels:,}"),
    ("hashtags of several labels", lambda d: None if d.num_shared_hashtags is None else f"{d.num_shared_hashtags:,}"),
    ("quarantined videos", lambda d: f"{sum(d.quarantined.values()):,}"),
)


def _optional(number: float | None) -> str | None:
    return None if number is None else f"{number:.3f}"


def _dropped(dataset: DatasetLabels, reason: str) -> str:
    return f"{dataset.label_space['dropped'].get(reason, 0):,}"


def quantities(datasets: Sequence[DatasetLabels]) -> list[list[str]]:
    """Rows (name of the quantity, its value as text for each dataset); "–" where it is not known."""
    return [[name, *(of(dataset) or "–" for dataset in datasets)] for name, of in _QUANTITIES]


def _numbers_section(datasets: Sequence[DatasetLabels]) -> Safe:
    headers = ("", *(dataset.name for dataset in datasets))
    drawn = [f"{d.name} was drawn from {d.base}" for d in datasets if d.base != d.name]
    note = f"{'; '.join(drawn)}: hashtags and quarantine are those of the latter." if drawn else None
    numbers = table(headers, quantities(datasets), label="Label spaces in numbers")
    return section("numbers", "In numbers", numbers, tag("p", note, class_="note") if note else None)


# ------------------------------------------------------------------------------------------------------ overlap


def _overlap_section(overlaps: Overlaps) -> Safe:
    intro = (
        "A target's label is in a dataset when one of the dataset's labels is spelt alike after normalisation, or has the "
        "same words in their canonical form, in any order and without stop words."
    )
    headers = ("Target", "Dataset", "Labels", "Exact", "By canonical words", "Missing", "In the dataset (%)")
    rows = [
        [target, dataset, *(f"{n:,}" for n in (o.num_labels, len(o.exact), len(o.canonical), len(o.missing))),
         percent(o.share)]
        for (dataset, target), o in overlaps.items()
    ]  # fmt: skip
    found = (_overlap_details(dataset, target, o) for (dataset, target), o in overlaps.items())
    shares = table(headers, rows, label="Overlap with targets", align="ll")
    return section("overlap", "Overlap with targets", tag("p", intro), shares, *found)


def _overlap_details(dataset: str, target: str, overlap: LabelOverlap) -> Safe:
    pairs = [(label, "exact", found) for label, found in overlap.exact.items()]
    pairs += [(label, "canonical words", found) for label, found in overlap.canonical.items()]
    rows = [[label, how, ", ".join(found)] for label, how, found in pairs]
    return join(
        _listed(f"{target} in {dataset}", ("Label of the target", "How", f"Labels of {dataset}"), rows, "lll"),
        _listed(f"{target} not in {dataset}", ("Label of the target",), [[label] for label in overlap.missing], "l"),
    )


# ------------------------------------------------------------------------------------------------------- labels


def _labels_section(datasets: Sequence[DatasetLabels]) -> Safe:
    return section(
        "labels", "Labels", *(join(tag("h3", dataset.name), *_label_tables(dataset)) for dataset in datasets)
    )


def _label_tables(dataset: DatasetLabels) -> list[Safe]:
    shared = [[hashtag, ", ".join(owners)] for hashtag, owners in dataset.shared_hashtags.items()]
    sizes = [[f"{size:,}", f"{count:,}"] for size, count in dataset.labels_per_video.items()]
    return [
        _listed("Labels", ("Label", "Videos"), _ranked(dataset.labels)),
        _listed("Labels per video", ("Labels of a video", "Videos"), sizes),
        _listed("Dropped labels", ("Label", "Videos matched"), _ranked(dataset.dropped)),
        _listed("Seed labels that matched nothing", ("Label",), [[label] for label in dataset.unused_labels or ()]),
        _listed("Hashtags of several labels", ("Hashtag", "Labels"), shared, "ll"),
        _listed("Quarantined videos by reason", ("Reason", "Videos"), _ranked(dataset.quarantined)),
    ]


def _ranked(counts: Mapping[str, int]) -> list[list[str]]:
    return [[name, f"{count:,}"] for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]


def _listed(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> Safe:
    """A table behind its title, cut to MAX_ROWS; nothing for no rows."""
    if not rows:
        return Safe("")
    cut = f", the first {MAX_ROWS} shown" if len(rows) > MAX_ROWS else ""
    return details(f"{title} ({len(rows):,}{cut})", table(headers, rows[:MAX_ROWS], label=title, align=align))
