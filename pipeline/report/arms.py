"""The runs of a sweep by what they were made to compare: an arm is the runs that differ in nothing but their seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report import axes
from pipeline.report.markup import size
from pipeline.report.points import Plan, Point

MAX_ARMS = 6
"""Arms in one picture: as many as there are colours, and as an eye can follow."""

_NOT_OF_RUNS = ("target", "protocol", "view", "seed")


@dataclass(frozen=True)
class Arm:
    axes: dict[str, Any]
    """Of the runs; without what is decided after the pretraining, and without the seed."""
    name: str
    """By the axes along which the sweep's arms differ."""
    runs: tuple[str, ...]
    """One per seed."""


def arms(plan: Plan) -> list[Arm]:
    """The pretrained arms, in the order of the plan."""
    found: dict[str, tuple[dict[str, Any], dict[str, None]]] = {}
    for point in plan.points:
        if point.kind != "scratch":
            place = run_axes(point)
            found.setdefault(repr(place), (place, {}))[1][point.run] = None
    names = axes.varying((place for place, _ in found.values()), axes.AXES) or ("num_videos",)
    return [Arm(place, _name(place, names), tuple(runs)) for place, runs in found.values()]


def run_axes(point: Point) -> dict[str, Any]:
    place = {axis: value for axis, value in point.axes.items() if axis not in _NOT_OF_RUNS}
    return place or {"num_videos": point.num_videos}


def _name(place: dict[str, Any], names: Sequence[str]) -> str:
    return axes.place(place, names) or f"{size(place.get('num_videos') or 0)} videos"


def panels(found: Sequence[Arm]) -> list[tuple[str, list[Arm]]]:
    """(title, arms) of pictures of at most MAX_ARMS arms: split along the axis that makes the fewest, else by order."""
    if len(found) <= MAX_ARMS:
        return [("", list(found))] if found else []
    splits = [_split(found, axis) for axis in axes.varying((arm.axes for arm in found), axes.AXES)]
    fitting = [split for split in splits if max(len(group) for _, group in split) <= MAX_ARMS]
    if fitting:
        return min(fitting, key=len)
    groups = [list(found[start : start + MAX_ARMS]) for start in range(0, len(found), MAX_ARMS)]
    return [(f"{group[0].name} to {group[-1].name}" if len(group) > 1 else group[0].name, group) for group in groups]


def _split(found: Sequence[Arm], axis: str) -> list[tuple[str, list[Arm]]]:
    groups: dict[str, list[Arm]] = {}
    for arm in found:
        groups.setdefault(axes.place(arm.axes, [axis]) or f"no {axes.axis_title(axis).lower()}", []).append(arm)
    return list(groups.items())
