"""What the paper printed: its own values of each figure and table, and the sizes of its targets.

Tables are complete; of a figure only what the text says in numbers. A value is a share, as in result.json; the other keys
are those axes of a point that it belongs to. Targets have the names of `scales.paper`.
"""

from __future__ import annotations

from typing import Any

Values = tuple[dict[str, Any], ...]

TARGET_VIDEOS = {"kinetics": (246_000, 20_000), "epic": (28_000, 8_047), "something": (86_000, 11_522)}
"""Section 3.2: training and test videos by the beginning of a target's name (EPIC-Kitchens: its seen kitchens)."""

DEPTHS = (18, 34, 101, 152)
SCRATCH = "scratch"
IG, IMAGES, SPORTS, IMAGENET = "ig-kinetics", "ig-kinetics-images", "sports-1m", "imagenet"


def _value(percent: float, where: str, **axes: Any) -> dict[str, Any]:
    return {**axes, "metric": axes.get("metric", "top1"), "value": round(percent / 100, 4), "where": where}


DATA_SIZE: Values = tuple(
    _value(percent, "Section 4.1.1", target=target, protocol=protocol, pretraining=pretraining, num_videos=size)
    for target, protocol, pretraining, size, percent in (
        ("kinetics", "full_ft", SCRATCH, 0, 67.0),
        ("kinetics", "full_ft", IG, 65_000_000, 74.8),
        ("kinetics", "fc_only", IG, 65_000_000, 73.0),
        ("epic_action", "full_ft", "kinetics", 0, 12.3),
        ("epic_action", "full_ft", IG, 65_000_000, 16.1),
    )
)
SAMPLING: Values = ()  # Figure 1c has no number in the text

_CAPACITY = {
    ("kinetics", IG): (76.0, 78.2, 79.1, 79.9),
    ("kinetics", SCRATCH): (69.3, 69.6, 71.7, 72.0),
    ("epic_action", IG): (20.8, 22.4, 24.9, 23.7),
    ("epic_action", "kinetics"): (14.8, 15.2, 17.1, 17.8),
}
CAPACITY: Values = tuple(
    _value(
        percent,
        "Table 2",
        target=target,
        protocol="full_ft",
        pretraining=pretraining,
        model=f"r2plus1d_{depth}",
        metric="top1" if target == "kinetics" else "map",
    )
    for (target, pretraining), row in _CAPACITY.items()
    for depth, percent in zip(DEPTHS, row, strict=True)
)
LABEL_KINDS: Values = ()  # Figure 2: only differences
LABEL_DISTRIBUTION: Values = tuple(
    _value(percent, "Section 4.2.1", target=target, labels=labels, metric="overlap")
    for target, labels, percent in (("epic_verb", "verb", 62.0), ("epic_noun", "noun", 42.0))
)
NUM_LABELS: Values = ()  # Figure 4: only differences

DURATIONS: Values = tuple(
    _value(percent, "Table 3", target="kinetics", protocol="fc_only", budget=budget, duration=band, num_videos=size)
    for budget, band, size, percent in (
        ("videos", "long", 5_000_000, 60.6),
        ("videos", "short", 5_000_000, 57.4),
        ("videos", "long_center", 5_000_000, 51.4),
        ("minutes", "long", 500_000, 50.6),
        ("minutes", "short", 5_000_000, 57.4),
        ("minutes", "long_center", 5_000_000, 51.4),
    )
)
FRAMES: Values = tuple(
    _value(percent, "Table 4", target="kinetics", protocol="full_ft", pretraining=name, num_videos=size, input=kind)
    for name, size, kind, percent in (
        (IMAGENET, 0, "image", 66.5),
        (IMAGES, 19_000_000, "image", 67.0),
        (IMAGES, 250_000_000, "image", 67.0),
        (IG, 19_000_000, "frame", 67.5),
        (SCRATCH, 0, "clip", 65.6),
        (IG, 19_000_000, "clip", 71.7),
    )
)


def _pair(where: str, target: str, pretraining: str, depth: int, view: str, percents: tuple[float, float]) -> Values:
    axes = {"target": target, "protocol": "full_ft", "pretraining": pretraining, "model": f"r2plus1d_{depth}"}
    pairs = zip(("top1", "top5"), percents, strict=True)
    return tuple(_value(percent, where, **axes, view=view, metric=metric) for metric, percent in pairs)


_OURS = ((IG, 34, "plain"), (IG, 34, "short_edge"), (IG, 152, "plain"), (IG, 152, "short_edge"))
_BASELINES = (("kinetics", 34, "plain"), (SPORTS, 34, "plain"))

KINETICS: Values = tuple(
    value
    for row, percents in zip(
        (_BASELINES[1], *_OURS, (IG, 152, "salient")),
        ((71.7, 90.5), (79.1, 93.9), (79.6, 94.2), (80.5, 94.6), (81.3, 95.1), (82.8, 95.3)),
        strict=True,
    )
    for value in _pair("Table 5", "kinetics", *row, percents)
)
_EPIC_VALIDATION = {
    "epic_verb": ((46.8, 79.2), (50.0, 79.8), (56.6, 83.5), (55.5, 83.3), (56.6, 83.8), (58.4, 84.1)),
    "epic_noun": ((25.6, 47.5), (24.8, 46.2), (32.7, 55.5), (34.8, 57.2), (34.5, 58.5), (36.9, 60.3)),
    "epic_action": ((15.3, 29.4), (16.0, 30.3), (22.5, 39.2), (22.8, 39.8), (23.5, 40.6), (26.1, 42.7)),
}
_EPIC_UNSEEN = {
    "epic_verb-s2": ((48.4, 77.2), (47.2, 77.4), (55.5, 80.9), (56.0, 80.6), (55.3, 80.3), (57.3, 81.1)),
    "epic_noun-s2": ((26.6, 50.4), (28.7, 50.0), (33.6, 56.7), (32.4, 55.6), (34.7, 58.2), (35.7, 58.7)),
    "epic_action-s2": ((16.8, 31.2), (18.3, 31.6), (23.7, 39.1), (23.6, 39.5), (25.4, 40.7), (25.6, 42.7)),
}
_EPIC_SEEN = {
    "epic_verb-s1": ((59.1, 87.4), (59.6, 87.2), (63.3, 87.5), (63.2, 87.6), (63.8, 87.7), (65.2, 87.4)),
    "epic_noun-s1": ((38.0, 62.7), (43.7, 67.0), (46.3, 69.6), (45.4, 68.7), (45.3, 68.3), (45.1, 67.8)),
    "epic_action-s1": ((26.8, 46.1), (31.0, 50.3), (34.4, 54.2), (33.4, 52.4), (34.1, 53.5), (34.5, 53.8)),
}
EPIC: Values = tuple(
    value
    for target, rows in {**_EPIC_VALIDATION, **_EPIC_SEEN, **_EPIC_UNSEEN}.items()
    for row, percents in zip((*_BASELINES, *_OURS), rows, strict=True)
    for value in _pair("Table 6", target, *row, percents)
)
SOMETHING: Values = tuple(
    value
    for row, percents in zip(
        (*_BASELINES, *_OURS),
        ((45.2, 74.1), (45.7, 74.5), (49.7, 77.5), (49.9, 77.5), (51.0, 79.0), (51.6, 78.8)),
        strict=True,
    )
    for value in _pair("Table 7", "something", *row, percents)
)
