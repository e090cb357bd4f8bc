"""The data behind the points: what each step kept and dropped, what could not be stored, and the label distributions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.report import funnel, plots
from pipeline.report.artefacts import Dataset, Labels, Source
from pipeline.report.markup import Safe, details, join, plural, section, table, tag, value, void
from pipeline.report.points import section as part

MAX_LABEL_ROWS = 1200
"""Over all sources."""
MAX_PLOTS = 12
MAX_OPEN_DATASETS = 8
MAX_LINES = 3
"""Subsets in a plot, the largest ones."""

Targets = Mapping[str, Mapping[str, Dataset]]

# ------------------------------------------------------------------------------------------------------- counts


def counts_section(sources: Sequence[Source], targets: Targets) -> Safe:
    """A funnel for every source, the counts of every target, and what could not be stored."""
    intro = (
        "Every step accounts for each thing it was given: in = kept + dropped, by reason. This page adds the numbers up again, "
        "and compares what one step kept with what the next was given."
    )
    found = [funnel.make_funnel(source) for source in sources]
    wrong = sum(len(made.problems) for made in found)
    verdict = f"{plural(wrong, 'sum')} that do not agree: see below." if wrong else "All sums agree."
    blocks = [join(tag("h3", "Source ", made.source), funnel.draw(made)) for made in found]
    splits = [dataset for named in targets.values() for dataset in named.values()]
    return section(
        "counts",
        "From posts to trained videos",
        tag(
            "p",
            intro,
            " ",
            tag("b", verdict, class_="warn" if wrong else None) if any(made.steps for made in found) else None,
        ),
        *(blocks or [tag("p", "No dataset of this sweep is known.")]),
        _targets(splits),
        _quarantine([source.dataset for source in sources] + splits),
    )


def _targets(splits: Sequence[Dataset]) -> Safe | None:
    if not splits:
        return None
    rows = [[dataset.name, *cells] for dataset in splits for cells in _target_rows(dataset)]
    headers = ("Target, split", "Step", "In", "Kept", "Dropped", "Kept of in", "Dropped by reason")
    return join(tag("h3", "Targets"), table(headers, rows, label="Counts of the targets", align="llrrrrl"))


def _target_rows(dataset: Dataset) -> Iterable[list[Any]]:
    counts = part(dataset.marker, "counts")
    steps = [step for key, entry in counts.items() if (step := funnel.make_step(dataset.name, key, entry))]
    if dataset.marker is None:
        return [[tag("span", "not there", class_="warn"), *[None] * 5]]
    return [funnel.step_row(step) for step in steps]


def _quarantine(datasets: Sequence[Dataset]) -> Safe | None:
    """Videos that could not be stored, by reason."""
    counted = {
        dataset.name: {str(reason): count for reason, count in part(dataset.marker, "quarantined").items() if count}
        for dataset in datasets
        if dataset.marker
    }
    if not counted:
        return None
    reasons = sorted({reason for found in counted.values() for reason in found})
    title = tag("h3", "Videos that could not be stored")
    if not reasons:
        return join(title, tag("p", f"None, in {plural(len(counted), 'dataset')} and splits of targets."))
    rows = [
        [name, *(value(found.get(reason, 0)) for reason in reasons), value(sum(found.values()))]
        for name, found in counted.items()
        if found
    ]
    headers = ("Dataset", *(reason.replace("_", " ") for reason in reasons), "all")
    where = "Which ones they are stands in the tables beside the shards, in the column reason."
    return join(
        title, table(headers, rows, label="Videos that could not be stored, by reason"), tag("p", where, class_="note")
    )


def flat(values: Any, where: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested dicts as (a · b · c, value); a list becomes its length when it is not of plain values."""
    found: list[tuple[str, Any]] = []
    for key, entry in values.items() if isinstance(values, dict) else ():
        name = where + str(key).replace("_", " ")
        if isinstance(entry, dict):
            found += flat(entry, f"{name} · ")
        elif isinstance(entry, list):
            simple = len(entry) <= 8 and not any(isinstance(item, dict | list) for item in entry)
            found.append((name, ", ".join(str(value(i)) for i in entry) if simple else plural(len(entry), "item")))
        else:
            found.append((name, value(entry)))
    return found


# ------------------------------------------------------------------------------------------------------- labels


def labels_section(sources: Sequence[Source], targets: Targets) -> Safe:
    """Videos per label of every source, its largest subsets beside it, and what the numbers come to."""
    known = [source for source in sources if source.dataset.labels.kept or source.dataset.labels.dropped]
    if not known:
        return section("labels", "Label distribution", tag("p", "No label counts are there."))
    num_rows = max(10, MAX_LABEL_ROWS // len(known))
    blocks = [_source_labels(f"l{i}", source, num_rows, i < MAX_PLOTS) for i, source in enumerate(known)]
    return section("labels", "Label distribution", *blocks, _overlaps(known, targets))


def _source_labels(name: str, source: Source, num_rows: int, is_drawn: bool) -> Safe:
    base = source.dataset.labels
    subsets = sorted(source.subsets, key=lambda dataset: (-(dataset.num_videos or 0), dataset.name))
    lined = [dataset for dataset in subsets if dataset.labels.kept][:MAX_LINES]
    kept, dropped = [n for _, n in base.kept], [n for _, n in base.dropped]
    below = f" ({base.floor:,} videos)" if base.floor else ""
    text = f"{source.dataset.name}: {plural(len(kept), 'label')} kept, {len(dropped):,} dropped by the floor{below}"
    figure = None
    if is_drawn:
        lines = [[count for _, count in dataset.labels.kept] for dataset in lined]
        image = plots.labels(name, f"Videos per label, sorted. {text}.", kept, dropped, lines, base.floor)
        caption = tag("figcaption", text, void("br"), *_label_keys(dropped, lined))
        figure = tag("figure", caption, image, class_="wide")
    rows = _distribution_table([source.dataset, *subsets])
    return join(tag("h3", "Source ", source.dataset.name), figure, rows, _label_tables(base, num_rows))


def _label_keys(dropped: Sequence[int], subsets: Sequence[Dataset]) -> list[Safe]:
    keys = [("kept", 1), ("dropped by the floor", 2)][: 2 if dropped else 1]
    found = [tag("span", text, class_="key", style=f"--k:var(--c{i})") for text, i in keys]
    named = ", ".join(dataset.name for dataset in subsets)
    return [*found, tag("span", f"thin lines, from the top: {named}", class_="key thin")] if subsets else found


def _distribution_table(datasets: Sequence[Dataset]) -> Safe:
    headers = ("Dataset", "Videos", "Labels", "Dropped", "Video–label pairs", "Most", "Median", "Fewest", "Head 10 % has",
               "Effective labels", "Entropy (bits)")  # fmt: skip
    rows = [_distribution_row(dataset) for dataset in datasets]
    if len(rows) <= MAX_OPEN_DATASETS:
        return table(headers, rows, label="Labels of each dataset")
    subsets = table(headers, rows[1:], label="Labels of each subset")
    return join(table(headers, rows[:1], label="Labels of the dataset"), details(f"Subsets ({len(rows) - 1})", subsets))


def _distribution_row(dataset: Dataset) -> list[Any]:
    counts = [count for _, count in dataset.labels.kept]
    head = [dataset.name, value(dataset.num_videos), f"{len(counts):,}", f"{len(dataset.labels.dropped):,}"]
    if not sum(counts):
        return [*head, *[None] * 7]
    ends = [f"{count:,}" for count in (counts[0], counts[len(counts) // 2], counts[-1])]
    top = sum(counts[: math.ceil(round(0.1 * len(counts), 9))]) / sum(counts)
    bits = entropy_bits(counts)
    return [*head, f"{sum(counts):,}", *ends, f"{100 * top:.1f} %", f"{2**bits:,.1f}", f"{bits:.2f}"]


def entropy_bits(counts: Sequence[int]) -> float:
    """Entropy of the label of a video–label pair drawn at random; 2 to it is the effective number of labels."""
    total = sum(counts)
    return abs(math.fsum(count / total * math.log2(count / total) for count in counts if count))


def _label_tables(labels: Labels, num_rows: int) -> Safe:
    kinds = (("kept", labels.kept), ("dropped", labels.dropped))
    return join(*(_label_table(what, pairs, num_rows) for what, pairs in kinds if pairs))


def _label_table(what: str, pairs: list[tuple[str, int]], num_rows: int) -> Safe:
    half = max(1, num_rows // 4)
    shown = pairs if len(pairs) <= 2 * half else pairs[:half] + pairs[-half:]
    cut = f", the {half} largest and smallest shown" if len(shown) < len(pairs) else ""
    rows = [[name, f"{count:,}"] for name, count in shown]
    content = table(("Label", "Videos"), rows, label=f"Labels {what}")
    return details(f"Labels {what} ({len(pairs):,}{cut})", content)


# ------------------------------------------------------------------------------------------- labels of the targets


def _overlaps(sources: Sequence[Source], targets: Targets) -> Safe | None:
    """How many of a target's labels are labels of each source, spelled the same."""
    names = {target: {spelling(name) for split in splits.values() for name, _ in split.labels.kept}
             for target, splits in targets.items()}  # fmt: skip
    rows = []
    for target, wanted in names.items():
        if wanted:
            spelled = [{spelling(name) for name, _ in source.dataset.labels.kept} for source in sources]
            rows.append([target, f"{len(wanted):,}", *(_share(len(wanted & found), len(wanted)) for found in spelled)])
    if not rows:
        return None
    text = (
        "Labels of each target that are labels of a source too, spelled the same but for case, spaces and punctuation. `tagreel "
        "labels` also finds other forms of the same words."
    )
    headers = ("Target", "Labels", *(f"in {source.dataset.name}" for source in sources))
    return join(tag("h3", "Labels of the targets"), tag("p", text), table(headers, rows, label="Labels of the targets"))


def spelling(label: str) -> str:
    return "".join(character for character in label.casefold() if character.isalnum()) or label


def _share(count: int, whole: int) -> str:
    return f"{count:,} ({funnel.share_text(count, whole)})"
