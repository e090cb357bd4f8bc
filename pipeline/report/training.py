"""Training curves: what every pretraining run logged, a few arms to a picture however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report import arms, inputs, plots
from pipeline.report.arms import Arm
from pipeline.report.markup import Safe, details, join, percent, plural, section, table, tag
from pipeline.report.points import Plan, number, unique

QUANTITIES = {"loss": "Training loss", "accuracy": "Training accuracy"}
MAX_SEEDS = 4
"""Runs drawn of an arm; the table has all."""
MAX_OPEN_PANELS = 3
MAX_OPEN_RUNS = 12

_LOGGED = (*QUANTITIES, "learning_rate", "clips_per_s", "waiting_share")


@dataclass(frozen=True)
class Log:
    """What a run logged; only what is drawn is kept of what may be many lines."""

    clips_seen: int
    series: dict[str, tuple[np.ndarray, np.ndarray]]
    """{quantity: (clips seen float64 [n], value float64 [n])}, where it is a number."""

    def last(self, quantity: str) -> float | None:
        """Mean over the last twentieth of the lines."""
        values = self.series[quantity][1]
        return float(values[-max(1, len(values) // 20) :].mean()) if len(values) else None

    def median(self, quantity: str) -> float | None:
        values = self.series[quantity][1]
        return float(np.median(values)) if len(values) else None


Logs = dict[str, Log]
"""By run; one that logged nothing is not there."""


def read_logs(plan: Plan, root: str) -> Logs:
    runs = unique([run for arm in arms.arms(plan) for run in arm.runs])
    found = ((run, log_of(inputs.read_metrics(root, run))) for run in runs)
    return {run: log for run, log in found if log}


def log_of(lines: Sequence[dict[str, Any]]) -> Log | None:
    """Lines of a metrics.jsonl, in order, as arrays."""
    if not lines:
        return None
    return Log(int(lines[-1]["clips_seen"]), {quantity: _series(lines, quantity) for quantity in _LOGGED})


def _series(lines: Iterable[dict[str, Any]], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    good = [(line["clips_seen"], line[quantity]) for line in lines if number(line.get(quantity)) is not None]
    clips, values = zip(*good, strict=True) if good else ((), ())
    return np.asarray(clips, float), np.asarray(values, float)


# --------------------------------------------------------------------------------------------------- the section


def training_section(plan: Plan, logs: Logs) -> Safe:
    found = arms.arms(plan)
    logged = [arm for arm in found if any(run in logs for run in arm.runs)]
    if not logged:
        return section("training", "Training curves", tag("p", "No run of this sweep has a metrics.jsonl."))
    missing = [run for arm in found for run in arm.runs if run not in logs]
    note = tag("p", "No metrics of: ", ", ".join(missing), class_="warn") if missing else None
    parts = (_curves(logged, logs), _schedules(logged, logs), note, _run_table(logged, logs))
    return section("training", "Training curves", tag("p", _intro(logged, logs)), *parts)


def _intro(found: Sequence[Arm], logs: Logs) -> str:
    text = "One line per pretraining run; long ones are averaged over stretches. Runs that differ only in their seed look alike."
    several = " All pictures of a quantity have the same axes." if len(found) > arms.MAX_ARMS else ""
    most = max(sum(run in logs for run in arm.runs) for arm in found)
    cut = f" At most {MAX_SEEDS} seeds are drawn; the table has all." if most > MAX_SEEDS else ""
    return text + several + cut


def _curves(found: Sequence[Arm], logs: Logs) -> Safe:
    drawn = {arm.name: [logs[run] for run in arm.runs if run in logs][:MAX_SEEDS] for arm in found}
    limits = {
        q: plots.training_limits([log.series[q] for group in drawn.values() for log in group]) for q in QUANTITIES
    }
    blocks = [
        _panel(place, title, [(arm.name, drawn[arm.name]) for arm in group], limits)
        for place, (title, group) in enumerate(arms.panels(found))
    ]
    shown, rest = blocks[:MAX_OPEN_PANELS], blocks[MAX_OPEN_PANELS:]
    return join(*shown, details(f"More training curves ({len(rest)})", *rest) if rest else None)


def _panel(place: int, title: str, group: Sequence[tuple[str, list[Log]]], limits: dict[str, Any]) -> Safe:
    """Loss and accuracy of some arms, side by side, under one legend."""
    figures = []
    for quantity, caption in QUANTITIES.items():
        lines = [(i, *log.series[quantity]) for i, (_, found) in enumerate(group) for log in found]
        if lines := [line for line in lines if len(line[1])]:
            ends = "; ".join(text for name, found in group if (text := _end(name, found, quantity)))
            alt = f"{caption} against clips seen{f', {title}' if title else ''}. At the end: {ends}."
            image = plots.training(f"t{place}{quantity}", alt, lines, quantity, limits[quantity])
            figures.append(tag("figure", tag("figcaption", tag("b", caption)), image))
    heading = tag("h3", title) if title else None
    return join(heading, _legend([name for name, _ in group]), tag("div", *figures, class_="grid"))


def _end(name: str, found: Sequence[Log], quantity: str) -> str:
    values = [value for log in found if (value := log.last(quantity)) is not None]
    if not values:
        return ""
    mean = float(np.mean(values))
    return f"{name} {percent(mean)} %" if quantity == "accuracy" else f"{name} {mean:.3g}"


def _legend(names: Sequence[str]) -> Safe:
    keys = (tag("span", plots.swatch(i), name, class_="entry") for i, name in enumerate(names))
    return tag("p", *keys, class_="legend")


def _schedules(found: Sequence[Arm], logs: Logs) -> Safe | None:
    """The learning rate: one line per schedule, which many runs may share."""
    sharing: dict[bytes, list[str]] = {}
    lines = {}
    for arm in found:
        for log in (logs[run] for run in arm.runs if run in logs):
            line = log.series["learning_rate"]
            if len(line[0]):
                key = line[0].tobytes() + line[1].tobytes()
                lines.setdefault(key, line)
                sharing.setdefault(key, []).append(arm.name)
    if not lines:
        return None
    drawn = [(i, *line) for i, line in enumerate(lines.values())]
    names = [_sharing(runs, len(logs)) for runs in sharing.values()]
    limits = plots.training_limits(list(lines.values()), from_zero=True)
    image = plots.training(
        "tlr", f"Learning rate against clips seen: {'; '.join(names)}.", drawn, "learning rate", limits
    )
    figure = tag("figure", tag("figcaption", tag("b", "Learning rate")), _legend(names), image, class_="wide")
    return details(f"Learning rate ({plural(len(lines), 'schedule')})", figure)


def _sharing(runs: Sequence[str], num_runs: int) -> str:
    if len(runs) == num_runs:
        return "all runs" if num_runs > 1 else runs[0]
    names = list(dict.fromkeys(runs))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


_HEADERS = (
    "Run", "Arm", "Clips seen", "First loss", "Final loss", "Final accuracy (%)", "Clips/s", "Waiting for data (%)",
)  # fmt: skip


def _run_table(found: Sequence[Arm], logs: Logs) -> Safe:
    rows = [_run_row(run, arm, logs[run]) for arm in found for run in arm.runs if run in logs]
    content = table(_HEADERS, rows, label="Pretraining runs", align="llrrrrrr")
    text = "Final values are means of the last twentieth of the lines; clips/s and waiting are medians."
    shown = join(content, tag("p", text, class_="note"))
    return shown if len(rows) <= MAX_OPEN_RUNS else details(f"All runs ({len(rows)})", shown)


def _run_row(run: str, arm: Arm, log: Log) -> list[Any]:
    losses = log.series["loss"][1]
    first, last = (f"{losses[0]:.3f}", f"{log.last('loss'):.3f}") if len(losses) else (None, None)
    speed = log.median("clips_per_s")
    rate = f"{speed:,.1f}" if speed is not None else None
    return [run, arm.name, f"{log.clips_seen:,}", first, last, percent(log.last("accuracy")), rate,
            percent(log.median("waiting_share"))]  # fmt: skip
