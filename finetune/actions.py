"""Actions as pairs of a verb and a noun: which compete, and their scores. N segments, V verbs, M nouns, A candidates."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

CHUNK = 1 << 22  # products at a time
PLACES = 5
"""Places that are asked about: of the candidates that no segment has, the best five of each segment tell all."""


def all_pairs(num_verbs: int, num_nouns: int) -> np.ndarray:
    """int64 [V·M, 2], every verb with every noun."""
    return np.stack(np.meshgrid(range(num_verbs), range(num_nouns), indexing="ij"), -1).reshape(-1, 2)


def split_action(action: str, verbs: Sequence[str], nouns: Sequence[str]) -> tuple[int, int] | None:
    """The verb and the noun that an action's name is made of, with no letter or digit between them; None if there is no
    such pair or several."""
    found = [
        (v, n)
        for v, verb in enumerate(verbs)
        if action.startswith(verb)
        for n, noun in enumerate(nouns)
        if action.endswith(noun)
        and len(verb) + len(noun) < len(action)
        and not re.search(r"[^\W_]", action[len(verb) : len(action) - len(noun)])
    ]
    return found[0] if len(found) == 1 else None


def action_scores(
    verb_scores: np.ndarray, noun_scores: np.ndarray, verb_ids: np.ndarray, noun_ids: np.ndarray, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The scores of the actions that the segments have, among all candidates.

    Args:
        verb_scores, noun_scores: float [N, V] and [N, M].
        verb_ids, noun_ids: int [N], of the segments.
        pairs: int [A, 2], the candidates. An own action that is none of them scores -inf, and is never among the first.

    Returns: float64 [N, K + 5], int64 [N] and int64 [K, 2]: the products for the K actions that segments have, then the five
        best of each segment among the other candidates; each segment's own column; verb and noun of the K.
    """
    own, labels = np.unique(np.stack([verb_ids, noun_ids], axis=1), axis=0, return_inverse=True)
    candidates, present = ({tuple(pair) for pair in of.tolist()} for of in (pairs, own))
    others = np.array([pair for pair in pairs.tolist() if tuple(pair) not in present], dtype=np.int64).reshape(-1, 2)
    scores = np.full((len(labels), len(own) + PLACES), -np.inf)
    scores[:, : len(own)] = _products(verb_scores, noun_scores, own)
    scores[:, : len(own)][:, [tuple(pair) not in candidates for pair in own.tolist()]] = -np.inf
    step = max(1, CHUNK // max(1, len(others)))
    for begin in range(0, len(labels) if len(others) else 0, step):
        chunk = slice(begin, begin + step)
        least = max(0, len(others) - PLACES)
        best = np.partition(_products(verb_scores[chunk], noun_scores[chunk], others), least, axis=1)[:, least:]
        scores[chunk, len(own) : len(own) + best.shape[1]] = best
    return scores, labels.reshape(-1), own


def _products(verb_scores: np.ndarray, noun_scores: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """float64 [N, len(pairs)]."""
    return verb_scores.astype(np.float64)[:, pairs[:, 0]] * noun_scores[:, pairs[:, 1]]
