"""The dimensions of points, and metrics, as a reader calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.report.markup import size

SCRATCH = "from scratch"

AXES = {
    "pretraining": "Pretraining",
    "labels": "Kind of labels",
    "num_labels": "Labels",
    "num_videos": "Videos",
    "minutes": "Minutes",
    "sampling": "Sampling",
    "label_noise": "Labels replaced",
    "near_duplicates": "Near-duplicates",
    "duration": "Duration",
    "budget": "Budget",
    "input": "Input",
    "inflate": "Inflation",
    "model": "Network",
    "clip_length": "Frames a clip",
    "view": "Test view",
    "target": "Target",
    "protocol": "Protocol",
    "seed": "Seed",
}
"""Every axis that a sweep uses, in the order of results.csv, and its title."""

METRICS = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class accuracy", "map": "mAP"}

_UNITS = {
    "num_labels": "labels",
    "num_videos": "videos",
    "minutes": "minutes",
    "clip_length": "frames",
    "inflate": "inflation",
    "budget": "budget",
    "label_noise": "of labels replaced",
    "near_duplicates": "near-duplicates",
}
_SPACED = ("sampling", "duration", "budget", "input", "inflate", "view", "labels")
_NETWORK = re.compile(r"(r2plus1d|r3d|r2d)_(\d+)", re.ASCII)
_FAMILY = {"r2plus1d": "R(2+1)D", "r3d": "R3D", "r2d": "R2D"}


def metric_name(name: str) -> str:
    return METRICS.get(name, name)


def metric_header(name: str) -> str:
    """Of a column of percentages."""
    return f"{capital(metric_name(name)) if name != 'map' else metric_name(name)} (%)"


def capital(text: str) -> str:
    """The first letter large, names within as they are."""
    return text[:1].upper() + text[1:]


def axis_title(axis: str) -> str:
    return AXES.get(axis, axis.replace("_", " ").capitalize())


def axis_value(axis: str, value: Any) -> str:
    """A value under the title of its axis, such as `65M` under "Videos"; "–" where the axis does not apply."""
    if value is None or (axis == "num_videos" and value == 0):
        return "–"
    if axis == "pretraining" and value == "scratch":
        return SCRATCH
    if axis == "label_noise":
        return f"{100 * value:g} %"
    if axis in ("num_videos", "num_labels") and isinstance(value, int):
        return _count_text(value)
    if axis == "model" and (found := _NETWORK.fullmatch(str(value))):
        return f"{_FAMILY[found[1]]}-{found[2]}"
    return str(value).replace("_", " ") if axis in _SPACED else str(value)


def _count_text(count: int) -> str:
    """Short where that is exact: two counts never read alike."""
    unit = next((unit for unit in (10**9, 10**6, 10**3) if count >= unit), 1)
    return size(count) if unit == 1 or count % (unit // 10) == 0 else f"{count:,}"


def place(axes: Mapping[str, Any], names: Iterable[str]) -> str:
    """Values of some axes that speak for themselves, such as `ig-kinetics, 65M videos`; those that do not apply are left out."""
    texts = [(axis, axis_value(axis, axes.get(axis))) for axis in names]
    return ", ".join(f"{text} {_UNITS[axis]}" if axis in _UNITS else text for axis, text in texts if text != "–")


def varying(of: Iterable[Mapping[str, Any]], names: Iterable[str], beside: Iterable[str] = ()) -> tuple[str, ...]:
    """Those of `names` along which these places differ.

    An axis that has one value and elsewhere does not apply is left out where the other `names`, and the axes `beside` them,
    tell the places apart without it: all arms have 19M videos, and a baseline none.
    """
    known, named, told = [dict(axes) for axes in of], tuple(names), tuple(beside)
    every = tuple(name for name in named if _count(known, (name,)) > 1)
    some = tuple(name for name in every if len({axis_value(name, axes.get(name)) for axes in known} - {"–"}) > 1)
    return some if _count(known, (*told, *some)) == _count(known, (*told, *every)) else every


def further(of: Iterable[Mapping[str, Any]], names: Iterable[str]) -> tuple[str, ...]:
    """The axes that it takes beside `names` to tell these places apart; none where the names do, as a layout's should."""
    known, names, found = [dict(axes) for axes in of], tuple(names), ()
    wanted = _count(known, [axis for axis in AXES if axis != "seed"])
    for axis in (axis for axis in AXES if axis != "seed"):
        so_far = _count(known, (*names, *found))
        if so_far < wanted and so_far < _count(known, (*names, *found, axis)):
            found += (axis,)
    return found


def _count(known: Iterable[Mapping[str, Any]], names: Iterable[str]) -> int:
    """Different places along some axes."""
    names = tuple(names)
    return len({repr([axes.get(name) for name in names]) for axes in known})
