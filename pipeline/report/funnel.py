"""From posts to trained videos: in = kept + dropped by reason at every step, and every step given what the one before kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from pipeline.report.artefacts import Dataset, Run, Source
from pipeline.report.markup import Safe, details, join, plural, table, tag
from pipeline.report.points import number, section

MAX_OPEN_SUBSETS = 12
MAX_BRANCHES = 8
"""Datasets drawn from a source that have a bar."""
POSTS, VIDEOS = "posts", "videos"


@dataclass(frozen=True)
class Step:
    """One step's counts, as its artefact states them."""

    artefact: str
    name: str
    total: int
    kept: int
    dropped: dict[str, int]
    unit: str = VIDEOS

    @property
    def gap(self) -> int:
        """in − kept − dropped: 0 when nothing is lost."""
        return self.total - self.kept - sum(self.dropped.values())


def make_step(artefact: str, name: str, counts: Any, unit: str = VIDEOS) -> Step | None:
    """A step from {in (or videos), kept, dropped}; None when these are other counts."""
    counts = counts if isinstance(counts, dict) else {}
    total, kept = number(counts.get("in", counts.get("videos"))), number(counts.get("kept"))
    if total is None or kept is None:
        return None
    dropped = counts.get("dropped") or {}
    reasons = dropped if isinstance(dropped, dict) else {"dropped": dropped}
    counted = {str(reason): int(number(count) or 0) for reason, count in reasons.items()}
    return Step(artefact, name.replace("_", " "), int(total), int(kept), counted, unit)


# -------------------------------------------------------------------------------------------------------- steps


@dataclass(frozen=True)
class Branch:
    """A subset: its steps from the whole of its base, and the runs that were trained on it."""

    dataset: str
    steps: list[Step]
    runs: list[Step]


@dataclass(frozen=True)
class Funnel:
    """A source's steps in the order of the flow."""

    source: str
    steps: list[Step]
    runs: list[Step]
    """Of runs on the source itself."""
    branches: list[Branch]
    num_matched: int | None
    """Videos that the kept posts show."""
    absent: list[str]
    """What should be there and is not."""
    problems: list[str]
    """Sums that do not agree, in words."""


def make_funnel(source: Source) -> Funnel:
    """Steps and checks of a source and its subsets."""
    name = source.dataset.name
    marker_counts = section(source.dataset.marker, "counts")
    posts = section(marker_counts, "posts") or section(source.matched, "counts")
    steps = [make_step(f"source of {name}", POSTS, posts, POSTS), *_dataset_steps(source.dataset, skip=(POSTS,))]
    if source.dedup:
        steps.append(make_step(f"dedup of {name}", "dedup", source.dedup.marker.get("counts")))
    steps = [step for step in steps if step]
    matched = number(posts.get(VIDEOS))
    num_matched = None if matched is None else int(matched)
    branches = [_branch(subset, source.runs) for subset in source.subsets]
    runs = _run_steps(name, source.runs)
    problems = [*_gaps([*steps, *runs]), *_breaks(steps, num_matched), *_misfits(steps, runs, name)]
    kept = {name: steps[-1].kept if steps else None} | {b.dataset: b.steps[-1].kept for b in branches if b.steps}
    for subset, branch in zip(source.subsets, branches, strict=True):
        problems += [
            *_gaps([*branch.steps, *branch.runs]),
            *_breaks(branch.steps, None),
            *_of_base(branch, subset, kept),
        ]
        problems += _misfits(branch.steps, branch.runs, branch.dataset)
    return Funnel(name, steps, runs, branches, num_matched, list(_absent(source)), problems)


def _dataset_steps(dataset: Dataset, skip: Sequence[str] = ()) -> list[Step]:
    counts = section(dataset.marker, "counts")
    made = [make_step(f"dataset {dataset.name}", key, value) for key, value in counts.items() if key not in skip]
    return [step for step in made if step]


def _branch(subset: Dataset, runs: Sequence[Run]) -> Branch:
    return Branch(subset.name, _dataset_steps(subset), _run_steps(subset.name, runs))


def _run_steps(dataset: str, runs: Sequence[Run]) -> list[Step]:
    made = [
        make_step(f"run {r.name}", f"run {r.name}", (r.marker or {}).get("counts"))
        for r in runs
        if r.dataset == dataset
    ]
    return [step for step in made if step]


def _absent(source: Source) -> Iterator[str]:
    if source.dataset.marker is None:
        yield f"dataset {source.dataset.name}: not built yet"
    elif source.matches is not None and source.matched is None:
        yield f"source of {source.dataset.name}: gone, or other posts have its name by now"
    if source.dedup is None and source.is_dedup_planned:
        yield f"dedup of {source.dataset.name}: not finished"
    yield from (f"dataset {subset.name}: not drawn yet" for subset in source.subsets if subset.marker is None)
    yield from (f"run {run.name}: not finished" for run in source.runs if run.marker is None)


# ------------------------------------------------------------------------------------------------------- checks


def _gaps(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        if step.gap:
            yield (
                f"{step.artefact}, {step.name}: {step.total:,} in, but {step.kept:,} kept + {sum(step.dropped.values()):,} "
                f"dropped; the sum is off by {step.gap:,}"
            )


def _breaks(steps: Sequence[Step], num_matched: int | None) -> Iterator[str]:
    """Steps that were not given what the one before kept; from posts to videos, what the kept posts show."""
    for before, after in pairwise(steps):
        given = num_matched if before.unit != after.unit else before.kept
        if given is not None and given != after.total:
            yield f"{after.artefact}, {after.name}: {after.total:,} in, but {before.name} before it left {given:,}"


def _of_base(branch: Branch, subset: Dataset, kept: dict[str, int | None]) -> Iterator[str]:
    """A subset's first step leaves out what its base's quarantine and dedup left out, and nothing else."""
    base_kept = kept.get(subset.base or "")
    if branch.steps and base_kept is not None and branch.steps[0].name == "base" and branch.steps[0].kept != base_kept:
        yield f"dataset {branch.dataset} was drawn from {branch.steps[0].kept:,} videos, but {subset.base} has {base_kept:,}"


def _misfits(steps: Sequence[Step], runs: Sequence[Step], dataset: str) -> Iterator[str]:
    """Runs that were trained on another number of videos than their dataset now has."""
    for run in runs:
        if steps and run.kept != steps[-1].kept:
            yield f"{run.artefact} was trained on {run.kept:,} videos, but dataset {dataset} has {steps[-1].kept:,}"


# -------------------------------------------------------------------------------------------------------- drawing


def draw(funnel: Funnel) -> Safe:
    """Bars for people, and the same numbers as a table."""
    alarm = [tag("p", tag("b", "Sums that do not agree")), tag("ul", *(tag("li", text) for text in funnel.problems))]
    missing = tag("p", "Missing: ", "; ".join(funnel.absent), class_="warn") if funnel.absent else None
    return join(
        tag("div", *alarm, class_="callout", role="alert") if funnel.problems else None,
        missing,
        tag("ol", *_bars(funnel), class_="funnel") if funnel.steps else None,
        _subsets(funnel),
        _table(funnel) if funnel.steps else None,
    )


def _bars(funnel: Funnel) -> Iterator[Safe]:
    """A row per step, then one per dataset drawn; posts and videos each against the first count of their kind."""
    whole: dict[str, int] = {}
    for step in funnel.steps:
        if step.unit == VIDEOS and VIDEOS not in whole and funnel.num_matched is not None:
            yield tag("li", f"These posts show {plural(funnel.num_matched, 'video')}.", class_="turn")
        yield _bar_row(_TITLES.get(step.name, step.name), step, whole.setdefault(step.unit, max(1, step.total)))
    for branch in _by_size(funnel.branches)[:MAX_BRANCHES]:
        first = branch.steps[0]
        drawn = replace(branch.steps[-1], total=first.kept if first.name == "base" else first.total, dropped={})
        yield _bar_row(f"In {branch.dataset}", drawn, whole.get(VIDEOS, max(1, drawn.total)), is_drawn=True)
    if (left := len(_by_size(funnel.branches)) - MAX_BRANCHES) > 0:
        yield tag("li", f"{plural(left, 'smaller dataset')} drawn from it: in the table below.", class_="turn")


def _by_size(branches: Sequence[Branch]) -> list[Branch]:
    """Those that are there, largest first."""
    return sorted((b for b in branches if b.steps), key=lambda b: (-b.steps[-1].kept, b.dataset))


def _bar_row(title: str, step: Step, whole: int, *, is_drawn: bool = False) -> Safe:
    """Kept and dropped as parts of the `whole`; of a dataset that was drawn, what it left out is no loss and not shown."""
    shares = f"{share_text(step.kept, step.total)} of those in"
    if whole != step.total:
        shares += f", {share_text(step.kept, whole)} of all {step.unit}"
    dropped = tag("span", class_="dropped", style=f"width:{_width(max(0, step.total - step.kept), whole)}")
    bars = tag(
        "span",
        tag("span", class_="drawn" if is_drawn else "kept", style=f"width:{_width(step.kept, whole)}"),
        None if is_drawn else dropped,
        class_="funnelbar",
        aria_hidden="true",
    )
    counts = f" {step.kept:,} of {step.total:,} {step.unit} "
    names = tag("span", tag("b", title), counts, tag("span", shares, class_="note"), class_="names")
    reasons = reasons_text(step.dropped)
    return tag("li", names, bars, tag("span", "dropped: ", reasons, class_="note") if reasons else None)


_TITLES = {
    "posts": "With a relevant hashtag",
    "duration": "Of the asked-for duration",
    "label space": "With a label of the label space",
    "sampling": "Sampled",
    "shards": "Stored",
    "dedup": "Not excluded",
    "base": "Stored in the base and not excluded",
}


def _width(count: int, whole: int) -> str:
    """Of a bar; what is not nothing can be seen."""
    return f"max(1px,{100 * min(1.0, count / whole):.2f}%)" if count else "0"


def share_text(count: int, whole: int) -> str:
    """Percent; only all of them read as 100 %, only none as 0 %."""
    share = count / whole if whole else 0.0
    text = "> 99.9" if 0.9995 <= share < 1 else "< 0.1" if 0 < share < 0.0005 else f"{100 * share:.1f}"
    return f"{text} %"


def reasons_text(dropped: dict[str, int]) -> str:
    ranked = sorted(dropped.items(), key=lambda pair: (-pair[1], pair[0]))
    return "; ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in ranked if count)


# --------------------------------------------------------------------------------------------------------- tables

_HEADERS = ("Step", "In", "Kept", "Dropped", "Kept of in", "Dropped by reason")


def _table(funnel: Funnel) -> Safe:
    rows = [step_row(step) for step in [*funnel.steps, *funnel.runs]]
    return details("The same as a table", table(_HEADERS, rows, label=f"Counts of {funnel.source}", align="lrrrrl"))


def step_row(step: Step) -> list[Any]:
    """Cells of `_HEADERS`; a sum that is off is marked."""
    gap = tag("b", f" (the sum is off by {step.gap:,})", class_="warn") if step.gap else None
    counts = [f"{count:,}" for count in (step.total, step.kept, sum(step.dropped.values()))]
    return [step.name, *counts, share_text(step.kept, step.total), join(reasons_text(step.dropped) or "–", gap)]


def _subsets(funnel: Funnel) -> Safe | None:
    """What the datasets drawn from the source took of it, and what was trained on them."""
    rows = [_subset_row(branch) for branch in _by_size(funnel.branches)]
    if not rows:
        return None
    content = table(_SUBSET_HEADERS, rows, label=f"Datasets drawn from {funnel.source}", align="lrrrrl")
    if len(rows) > MAX_OPEN_SUBSETS:
        content = details(f"Datasets drawn from {funnel.source} ({len(rows):,})", content)
    return join(tag("h4", "Datasets drawn from it, and the videos that runs were trained on"), content)


_SUBSET_HEADERS = ("Dataset", "In", "Kept", "Kept of in", "Trained on", "Left out, by step and reason")


def _subset_row(branch: Branch) -> list[Any]:
    first, last = branch.steps[0], branch.steps[-1]
    lost = [f"{step.name}: {text}" for step in branch.steps if (text := reasons_text(step.dropped))]
    off = any(step.gap for step in [*branch.steps, *branch.runs])
    trained = sorted({f"{run.kept:,}" for run in branch.runs})
    mark = tag("b", " (the sum is off)", class_="warn") if off else None
    counts = [f"{first.total:,}", f"{last.kept:,}", share_text(last.kept, first.total)]
    return [branch.dataset, *counts, ", ".join(trained) or None, join("; ".join(lost) or "–", mark)]
