"""The data behind the points: what each stage kept and dropped, and the label distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.report import plots
from pipeline.report.inputs import Labels, Stage, number
from pipeline.report.markup import Safe, details, join, plural, section, table, tag, value, void

MAX_LABEL_ROWS = 200
MAX_OPEN_DATASETS = 8

# ------------------------------------------------------------------------------------------------------- counts


_FUNNEL_HEADERS = ("Artefact", "Stage", "In", "Kept", "Dropped", "Kept of in", "Dropped by reason")


def funnel_section(stages: Sequence[Stage]) -> Safe:
    """Every stage's in = kept + dropped by reason; counts of another shape follow as they are."""
    intro = (
        "Every stage accounts for each thing it was given: in = kept + dropped, by reason. Sums are recomputed here."
    )
    shared, many = ([s for s in stages if s.per_point == flag] for flag in (False, True))
    wrong = sum(_gap(entry) != 0 for stage in stages for entry in split_counts(_counts(stage))[0])
    alarm = (
        tag("p", f"{plural(wrong, 'stage')} of which the sum is off, marked below.", class_="callout")
        if wrong
        else None
    )
    collapsed = details(f"Subsets and runs ({len(many):,})", _funnel(many)) if many else None
    return section("counts", "What was kept and what was dropped", tag("p", intro), alarm, _funnel(shared), collapsed)


def _counts(stage: Stage) -> Any:
    return (stage.marker or {}).get("counts")


def _funnel(stages: Sequence[Stage]) -> Safe:
    """A table of the stages that count what is in and kept, and one of every other count."""
    rows, others = [], []
    for stage in stages:
        entries, rest = split_counts(_counts(stage))
        rows += [[stage.what if i == 0 else "", *_stage_row(entry)] for i, entry in enumerate(entries)]
        others += [[stage.what, *pair] for pair in flat(rest)]
        if stage.marker is None:
            others.append([stage.what, tag("span", "not there", class_="warn"), None])
    funnel = table(_FUNNEL_HEADERS, rows, label="Counts of every stage", align="llrrrll") if rows else None
    left = table(("Artefact", "Other count", "Value"), others, label="Other counts", align="llr") if others else None
    return join(funnel, left)


def split_counts(counts: Any, name: str = "") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(stages, what is left) of an artefact's counts. A stage is {in, kept, dropped} (or {videos, kept, dropped}),
    named by its own `name` in a list `stages`, else by the key that it stands under."""
    if not isinstance(counts, dict):
        return [], {}
    total = next((key for key in ("in", "videos") if number(counts.get(key)) is not None), None)
    stages, rest = [], dict(counts)
    if total and number(counts.get("kept")) is not None:
        stages = [
            {"name": name or total, "in": rest.pop(total), "kept": rest.pop("kept"), "dropped": rest.pop("dropped", {})}
        ]
    listed = rest.pop("stages") if isinstance(rest.get("stages"), list) else []
    for entry in listed:
        stages += split_counts(entry, str(entry.get("name", "")))[0] if isinstance(entry, dict) else []
    for key in [key for key, entry in rest.items() if isinstance(entry, dict)]:
        inner, left = split_counts(rest.pop(key), key)
        stages += inner
        rest |= {key: left} if left else {}
    return stages, rest


def _reasons(stage: dict[str, Any]) -> dict[str, int]:
    dropped = stage["dropped"] or {}
    reasons = dropped if isinstance(dropped, dict) else {"dropped": dropped}
    return {str(reason): int(number(count) or 0) for reason, count in reasons.items()}


def _gap(stage: dict[str, Any]) -> int:
    return int(stage["in"]) - int(stage["kept"]) - sum(_reasons(stage).values())


def _stage_row(stage: dict[str, Any]) -> list[Any]:
    total, kept, reasons, gap = int(stage["in"]), int(stage["kept"]), _reasons(stage), _gap(stage)
    ranked = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    texts = [f"{count:,} {reason.replace('_', ' ')}" for reason, count in ranked if count]
    wrong = tag("b", f" (the sum is off by {gap:,})", class_="warn") if gap else None
    cells = [stage["name"].replace("_", " "), f"{total:,}", f"{kept:,}", f"{sum(reasons.values()):,}"]
    return [*cells, _bar(kept / total if total else 0.0), join("; ".join(texts) or "–", wrong)]


def _bar(share: float) -> Safe:
    """A bar and its number; only a share of exactly 1 reads as 100 %, only 0 as 0 %."""
    filled = tag("span", style=f"width:{100 * min(1.0, max(0.0, share)):.1f}%")
    text = "> 99.9" if 0.9995 <= share < 1 else "< 0.1" if 0 < share < 0.0005 else f"{100 * share:.1f}"
    return join(tag("span", filled, class_="bar", aria_hidden="true"), tag("span", f"{text} %", class_="share"))


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


def labels_section(found: Sequence[tuple[str, Labels]], floor: int | None) -> Safe:
    """`found`: the base dataset first, then the subsets drawn from it."""
    if not found:
        return section("labels", "Label distribution", tag("p", "No label counts are there."))
    (name, base), subsets = found[0], found[1:]
    kept, dropped = [n for _, n in base.kept], [n for _, n in base.dropped]
    below = f" ({floor:,} videos)" if floor else ""
    text = f"{name}: {plural(len(kept), 'label')} kept, {len(dropped):,} dropped by the floor{below}"
    lines = [[count for _, count in labels.kept] for _, labels in subsets]
    image = plots.labels("l", f"Videos per label, sorted. {text}.", kept, dropped, lines, floor)
    figure = tag("figure", tag("figcaption", text, void("br"), *_label_keys(dropped, subsets)), image, class_="wide")
    return section("labels", "Label distribution", figure, _distribution_table(found), _label_tables(base))


def _label_keys(dropped: Sequence[int], subsets: Sequence[Any]) -> list[Safe]:
    keys = [("kept", 1), ("dropped by the floor", 2)][: 2 if dropped else 1]
    found = [tag("span", text, class_="key", style=f"--k:var(--c{i})") for text, i in keys]
    thin = f"{plural(len(subsets), 'subset')} (thin lines)"
    return [*found, tag("span", thin, class_="key thin")] if subsets else found


def _distribution_table(found: Sequence[tuple[str, Labels]]) -> Safe:
    rows = []
    for name, labels in found:
        counts = [count for _, count in labels.kept]
        ends = [f"{count:,}" for count in (counts[0], counts[len(counts) // 2], counts[-1])] if counts else [None] * 3
        rows.append([name, f"{len(counts):,}", f"{len(labels.dropped):,}", f"{sum(counts):,}", *ends])
    headers = ("Dataset", "Labels", "Dropped", "Video–label pairs", "Most", "Median", "Fewest")
    if len(rows) <= MAX_OPEN_DATASETS:
        return table(headers, rows, label="Labels of each dataset")
    subsets = table(headers, rows[1:], label="Labels of each subset")
    return join(table(headers, rows[:1], label="Labels of the dataset"), details(f"Subsets ({len(rows) - 1})", subsets))


def _label_tables(labels: Labels) -> Safe:
    return join(
        *(_label_table(what, pairs) for what, pairs in (("kept", labels.kept), ("dropped", labels.dropped)) if pairs)
    )


def _label_table(what: str, pairs: list[tuple[str, int]]) -> Safe:
    shown = pairs if len(pairs) <= MAX_LABEL_ROWS else pairs[: MAX_LABEL_ROWS // 2] + pairs[-MAX_LABEL_ROWS // 2 :]
    cut = f", the {MAX_LABEL_ROWS // 2} largest and smallest shown" if len(shown) < len(pairs) else ""
    rows = [[name, f"{count:,}"] for name, count in shown]
    content = table(("Label", "Videos"), rows, label=f"Labels {what}")
    return details(f"Labels {what} ({len(pairs):,}{cut})", content)
