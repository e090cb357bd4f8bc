"""Short, long and long-centre datasets with one distribution of labels (paper, Section 4.3.1 and Table 3).

Short videos last 1–5 s, long ones 55–60 s, and long-centre ones are the middle 4 s of the long. So that nothing but time
differs, the three take equally many videos of each label: a label offers what the poorer of the two bands has of it, and
the order in which labels are served depends on these offers alone. A video with several labels is booked to one label
of account, the rarest, and the promise is about these; how often its other labels occur is counted, not controlled.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

BANDS = {"short": (1.0, 5.0), "long": (55.0, 60.0)}
"""Seconds to a tenth, both ends included: an upload cut at a minute lasts 60.03 s as often as 60."""
CENTER_S = 4.0


def band_of(duration: str) -> str:
    """The band that a duration setting draws from: `long_center` draws from `long`."""
    return "long" if duration == "long_center" else duration


def in_band(durations_s: np.ndarray, band: str) -> np.ndarray:
    """bool [N]; unknown durations (NaN) are in no band, and any known one is in `any`."""
    shortest, longest = BANDS.get(band, (0.0, np.inf))
    tenths = np.round(np.asarray(durations_s, np.float64), 1)
    return (tenths >= shortest) & (tenths <= longest)


def center_span(durations_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(start_s, end_s) of the middle `CENTER_S` seconds, float [N] each."""
    start_s = (durations_s - CENTER_S) / 2
    return start_s, start_s + CENTER_S


def labels_of_account(label_ids: np.ndarray, offsets: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """int32 [N]: each video's rarest label by `counts` (int64 [K]), the smaller id of equally rare ones.

    Labels of video i are `label_ids[offsets[i]:offsets[i + 1]]`, at least one.
    """
    by_rarity = np.argsort(counts, kind="stable").astype(np.int32)
    rarity = np.empty_like(by_rarity)
    rarity[by_rarity] = np.arange(len(counts), dtype=np.int32)
    return by_rarity[np.minimum.reduceat(rarity[label_ids], offsets[:-1])] if len(offsets) > 1 else by_rarity[:0]


def quota_order(
    ranks: np.ndarray, accounts: np.ndarray, offered: np.ndarray, strategy: Literal["random", "tail_preserving"]
) -> np.ndarray:
    """int64 [sum of offered]: videos in sampling order; how many of each label are among the first n depends on `offered` alone.

    A label's videos come in order of hash rank, as many as it offers. `tail_preserving` serves all labels in turn until
    each has given what it offers: one common cap. `random` serves them in proportion to their offers, by the method of
    Sainte-Laguë (the divisor method that, unlike the largest remainder, never takes a video back when n grows).

    Args:
        ranks: uint64 [N].
        accounts: int32 [N], the label of account of each video.
        offered: int64 [K], at most the number of videos with that label of account.
    """
    order = np.lexsort((ranks, accounts))
    labels = accounts[order]
    places = np.arange(len(order)) - np.searchsorted(labels, labels, side="left")
    served = places < offered[labels]
    order, labels, places = order[served], labels[served], places[served]
    turn = places if strategy == "tail_preserving" else (places + 0.5) / offered[labels]
    return order[np.lexsort((labels, turn))]
