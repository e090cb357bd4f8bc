"""Two results → accuracy on pairs of their labels: EPIC-Kitchens' actions from a verb and a noun model (paper, Table 6).

    python -m finetune.joint --verb runs/R/transfer/epic-verb-full_ft --noun runs/R/transfer/epic-noun-full_ft

The two models are trained apart (paper, A.4). Verb and noun are taken to be independent given the segment: the score of an
action is the product of their probabilities. What competes is every verb with every noun, or the actions of a target.
N segments, V verbs, M nouns, A actions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from finetune import predictions
from finetune.bootstrap import bootstrap_interval
from finetune.metrics import top_k_correct
from finetune.predictions import Predictions
from pipeline import artifacts, progress, storage
from pipeline.artifacts import TransferFiles
from pipeline.cli import run_stage
from pipeline.config import ConfigError

CHUNK = 1 << 22  # products at a time
MIN_NAMED = 3


@dataclass(frozen=True)
class JointConfig:
    """Results of a verb model and of a noun model on the same segments → accuracy on actions, the pairs of both."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    verb: str = ""
    """Folder of the verb model's result, which holds result.json and predictions.parquet."""
    noun: str = ""
    """Folder of the noun model's result."""
    target: str = ""
    """Target whose labels are actions ("VERB NOUN"): what competes with `candidates = "target"`."""
    candidates: Literal["pairs", "target"] = "pairs"
    """pairs: every verb with every noun; target: the actions of `target` alone, an action that it lacks counts as wrong."""
    to: str = ""
    """JSON file to write; empty only prints."""


class Predicted(NamedTuple):
    """The scored segments of one result."""

    folder: str
    digest: str
    target: str
    scored: Predictions


def joint(config: JointConfig) -> dict[str, Any]:
    """Combine two results; print, write and return the accuracies.

    Raises:
        ConfigError: a result is missing, holds several trainings, or is on other segments than the other one.
    """
    if config.candidates == "target" and not config.target:
        raise ConfigError("candidates = 'target' needs --target, a target whose labels are actions")
    verb, noun = read(config.verb, "--verb"), read(config.noun, "--noun")
    keys, dropped = common_segments(verb, noun)
    (verb_scores, verb_ids), (noun_scores, noun_ids) = (
        (taken.scores, taken.labels) for taken in (verb.scored.take(keys), noun.scored.take(keys))
    )
    pairs = all_pairs(verb, noun) if config.candidates == "pairs" else actions_of(config, verb, noun)
    ranks = action_ranks(verb_scores, noun_scores, verb_ids, noun_ids, pairs)
    measured = {
        part: {
            "num_segments": int(mask.sum()),
            "verb": _accuracies(*(top_k_correct(verb_scores[mask], verb_ids[mask], k) for k in (1, 5))),
            "noun": _accuracies(*(top_k_correct(noun_scores[mask], noun_ids[mask], k) for k in (1, 5))),
            "action": _accuracies(ranks[mask] <= 1, ranks[mask] <= 5),
        }
        for part, mask in parts(config.root, verb.target, keys).items()
        if mask.any()
    }
    found = {
        "verb": {"folder": verb.folder, "digest": verb.digest},
        "noun": {"folder": noun.folder, "digest": noun.digest},
        "candidates": {"kind": config.candidates, "target": config.target, "number": len(pairs)},
        "counts": {"segments": len(keys) + sum(dropped.values()), "scored": len(keys), "dropped": dropped},
        "metrics": measured,
    }
    say(found)
    if config.to:
        storage.write_json(config.to, found)
    return found


# ------------------------------------------------------------------------------------------------------- inputs


def read(folder: str, option: str) -> Predicted:
    """One result's segments with their probabilities."""
    if not folder:
        raise ConfigError(f"no result to read: name the folder of one with {option}")
    files = TransferFiles(folder.removesuffix("/result.json"))
    marker = artifacts.read_marker(
        files.marker, f"{option} must be the folder of a finished result of `tagreel transfer`"
    )
    if len(marker["seeds"]) > 1:
        raise ConfigError(
            f"'{folder}' holds {len(marker['seeds'])} trainings (repeats), and actions are of one: run it with repeats = 1 "
            "and a --result name"
        )
    scored = predictions.read(files, marker, marker["seeds"][0])
    if scored.multi_label:
        raise ConfigError(f"the segments of '{folder}' have several labels each, and an action is of one verb and noun")
    return Predicted(files.folder, marker["digest"], marker["config"]["target"], scored)


def common_segments(verb: Predicted, noun: Predicted) -> tuple[list[str], dict[str, int]]:
    """Keys of the segments that both scored, in the verb's order, and the number of the others by reason."""
    both = set(verb.scored.keys) & set(noun.scored.keys)
    if not both:
        raise ConfigError(
            f"'{verb.folder}' and '{noun.folder}' have no test segment in common: their targets, '{verb.target}' and "
            f"'{noun.target}', must be made of the same annotations"
        )
    unscored = noun.scored.unscored | verb.scored.unscored
    others = ({*verb.scored.keys, *noun.scored.keys} | unscored.keys()) - both
    reasons = Counter(unscored.get(key, "in_one_result_only") for key in others)
    return [key for key in verb.scored.keys if key in both], dict(reasons)


def parts(root: str, target: str, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Masks, bool [N], of all segments and, where the target has groups (participants), of those whose group has training
    segments ("seen") and of the others ("unseen")."""
    found = {"all": np.ones(len(keys), dtype=bool)}
    in_train, in_test = (groups(root, target, part) for part in ("train", "test"))
    known = {*in_train.values()} - {None}
    if known:
        seen = np.array([in_test.get(key) in known for key in keys])
        found |= {"seen": seen, "unseen": ~seen}
    return found


def groups(root: str, target: str, part: str) -> dict[str, str | None]:
    """Group of each of the videos of a target's split; nothing for a target that is not there or has none."""
    manifest = artifacts.target_files(root, target, part).manifest
    table = storage.read_parquet_parts(manifest) if storage.exists(manifest) else pa.table({})
    if "group" not in table.column_names:
        return {}
    return dict(zip(table["video_id"].to_pylist(), table["group"].to_pylist(), strict=True))


# ------------------------------------------------------------------------------------------------------ actions


def all_pairs(verb: Predicted, noun: Predicted) -> np.ndarray:
    """int64 [V·M, 2], every verb with every noun."""
    sides = (range(len(of.scored.names)) for of in (verb, noun))
    return np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)


def actions_of(config: JointConfig, verb: Predicted, noun: Predicted) -> np.ndarray:
    """int64 [A, 2], verb and noun of each action of the target."""
    files = artifacts.target_files(config.root, config.target, "test")
    marker = artifacts.read_marker(files.marker, f"run `tagreel target --target {config.target}` first")
    pairs = [split_action(label["name"], verb.scored.names, noun.scored.names) for label in marker["labels"]]
    lost = [label["name"] for label, pair in zip(marker["labels"], pairs, strict=True) if pair is None]
    if lost:
        raise ConfigError(
            f"{len(lost)} of the {len(pairs)} labels of target '{config.target}' are not a verb and a noun of the two results: "
            f"{', '.join(map(repr, lost[:MIN_NAMED]))}"
        )
    return np.array(pairs, dtype=np.int64)


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


def action_ranks(
    verb_scores: np.ndarray, noun_scores: np.ndarray, verb_ids: np.ndarray, noun_ids: np.ndarray, pairs: np.ndarray
) -> np.ndarray:
    """Place of each segment's own action among the candidates, from 1; ties count against it.

    Args:
        verb_scores, noun_scores: float [N, V] and [N, M].
        verb_ids, noun_ids: int [N], of the segments.
        pairs: int [A, 2], the candidates. An own action that is none of them has place A + 1.

    Returns: int64 [N].
    """
    candidates = {tuple(pair) for pair in pairs.tolist()}
    is_candidate = [pair in candidates for pair in zip(verb_ids.tolist(), noun_ids.tolist(), strict=True)]
    own = np.arange(len(verb_ids))
    own = verb_scores[own, verb_ids].astype(np.float64) * noun_scores[own, noun_ids]
    ranks = np.empty(len(own), dtype=np.int64)
    step = max(1, CHUNK // len(pairs))
    for begin in range(0, len(own), step):
        chunk = slice(begin, begin + step)
        products = verb_scores[chunk].astype(np.float64)[:, pairs[:, 0]] * noun_scores[chunk][:, pairs[:, 1]]
        ranks[chunk] = (~(products < own[chunk, None])).sum(axis=1)
    return np.where(is_candidate, ranks, len(pairs) + 1)


def _accuracies(top1: np.ndarray, top5: np.ndarray) -> dict[str, Any]:
    return {"top1": float(top1.mean()), "top5": float(top5.mean()), "top1_interval": list(bootstrap_interval(top1))}


def say(found: dict[str, Any]) -> None:
    """A line for each part."""
    counts, candidates = found["counts"], found["candidates"]
    progress.say_counts("joint: segments", counts["segments"], counts["scored"], counts["dropped"])
    progress.say(f"joint: {candidates['number']:,} actions compete ({candidates['kind']})")
    for part, measured in found["metrics"].items():
        columns = "; ".join(
            f"{kind} top-1 {measured[kind]['top1']:.1%}, top-5 {measured[kind]['top5']:.1%}"
            for kind in ("verb", "noun", "action")
        )
        progress.say(f"joint: {part}, {measured['num_segments']:,} segments: {columns}")


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    run_stage(JointConfig, joint, argv)


if __name__ == "__main__":
    main()
