"""Two results → accuracy on pairs of their labels: EPIC-Kitchens' actions from a verb and a noun model (paper, Table 6).

    python -m finetune.joint --verb runs/R/transfer/epic-verb-full_ft --noun runs/R/transfer/epic-noun-full_ft

The two models are trained apart (paper, A.4). Verb and noun are taken to be independent given the segment: the score of an
action is the product of their probabilities. What competes is every verb with every noun, or the actions of a target.
N segments, A actions that compete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from finetune import actions, metrics, predictions
from finetune.bootstrap import bootstrap_interval
from finetune.predictions import Predictions
from pipeline import artifacts, progress, storage
from pipeline import config as configs
from pipeline.artifacts import TransferFiles
from pipeline.cli import run_stage
from pipeline.config import ConfigError, JointConfig

MIN_NAMED = 3
PATHS = ("verb", "noun", "to")
"""Fields of the config that say where things are, not what is made of them."""


class Predicted(NamedTuple):
    """The scored segments of one result."""

    folder: str
    digest: str
    target: str
    scored: Predictions


def joint(config: JointConfig) -> dict[str, Any]:
    """Combine two results; print, write and return the accuracies.

    `metrics` are those of a transfer whose labels are actions, but of each action that no segment has there is none in
    `per_class`; `parts` tells seen from unseen groups, and the two models' own accuracies.

    Raises:
        ConfigError: a result is missing, holds several trainings, or is on other segments than the other one.
    """
    if config.candidates == "target" and not config.target:
        raise ConfigError("candidates = 'target' needs --target, a target whose labels are actions")
    verb, noun = read(config.verb, "--verb"), read(config.noun, "--noun")
    keys, dropped = common_segments(verb, noun)
    sides = {"verb": verb.scored.take(keys), "noun": noun.scored.take(keys)}
    pairs = candidate_pairs(config, verb, noun)
    scores, labels, own = actions.action_scores(
        *(side.scores for side in sides.values()), *(side.labels for side in sides.values()), pairs
    )
    names = [f"{verb.scored.names[v]} {noun.scored.names[n]}" for v, n in own]
    places = {**{kind: (side.scores, side.labels) for kind, side in sides.items()}, "action": (scores, labels)}
    found = {
        "config": configs.determining(config, PATHS),
        "input_digests": input_digests(config, verb, noun),
        "counts": {"segments": len(keys) + sum(dropped.values()), "scored": len(keys), "dropped": dropped},
        "verb": verb.folder,
        "noun": noun.folder,
        "num_candidates": len(pairs),
        "metrics": {**summary(scores, labels, names), "num_undecodable": sum(dropped.values())},
        "parts": {
            part: {
                "num_segments": int(mask.sum()),
                **{kind: _accuracies(of[mask], ids[mask]) for kind, (of, ids) in places.items()},
            }
            for part, mask in parts(config.root, verb.target, keys).items()
            if mask.any()
        },
        "labels": names,
    }
    found["digest"] = configs.digest(found)
    say(found)
    if config.to:
        storage.write_json(config.to, found)
    return found


def summary(scores: np.ndarray, labels: np.ndarray, names: list[str]) -> dict[str, Any]:
    """`metrics.summarise` of actions: only those that segments have are classes, all candidates compete."""
    others = [f"another {place}" for place in range(scores.shape[1] - len(names))]
    found = metrics.summarise(scores, labels, [*names, *others])
    return {**found, "per_class": {name: found["per_class"][name] for name in names}}


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


def input_digests(config: JointConfig, verb: Predicted, noun: Predicted) -> dict[str, str]:
    found = {"verb": verb.digest, "noun": noun.digest}
    if config.candidates == "target":
        found["target"] = read_target(config)["digest"]
    return found


def read_target(config: JointConfig) -> dict[str, Any]:
    files = artifacts.target_files(config.root, config.target, "test")
    return artifacts.read_marker(files.marker, f"run `tagreel target --target {config.target}` first")


def candidate_pairs(config: JointConfig, verb: Predicted, noun: Predicted) -> np.ndarray:
    """int64 [A, 2], verb and noun of each action that competes."""
    if config.candidates == "pairs":
        return actions.all_pairs(len(verb.scored.names), len(noun.scored.names))
    names = [label["name"] for label in read_target(config)["labels"]]
    pairs = [actions.split_action(name, verb.scored.names, noun.scored.names) for name in names]
    lost = [name for name, pair in zip(names, pairs, strict=True) if pair is None]
    if lost:
        raise ConfigError(
            f"{len(lost)} of the {len(pairs)} labels of target '{config.target}' are not a verb and a noun of the two results: "
            f"{', '.join(map(repr, lost[:MIN_NAMED]))}"
        )
    return np.array(pairs, dtype=np.int64)


# -------------------------------------------------------------------------------------------------------- numbers


def _accuracies(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    top1, top5 = (metrics.top_k_correct(scores, labels, k) for k in (1, 5))
    return {"top1": float(top1.mean()), "top5": float(top5.mean()), "top1_interval": list(bootstrap_interval(top1))}


def say(found: dict[str, Any]) -> None:
    """A line for each part."""
    counts = found["counts"]
    progress.say_counts("joint: segments", counts["segments"], counts["scored"], counts["dropped"])
    progress.say(f"joint: {found['num_candidates']:,} actions compete ({found['config']['candidates']})")
    for part, measured in found["parts"].items():
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
