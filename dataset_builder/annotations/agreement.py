"""Whether both splits of a target speak of the same labels, and of different videos."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dataset_builder.annotations.samples import Collected, Sample
from dataset_builder.annotations.splits import check_not_empty
from pipeline import progress
from pipeline.config import ConfigError

SHOWN = 5


def agree(splits: dict[str, Collected]) -> tuple[list[str], list[dict[str, Any]]]:
    """Make the labels of the training split those of the target.

    Test samples none of whose labels is among them are dropped (`label_not_in_train`): no classifier of these labels can
    be right on them. Their share is said, because who reports accuracy over all test rows counts them as wrong.

    Returns: label names, sorted; and the labels that only the test split has, [{name, num_samples}].
    Raises: ConfigError for what makes a score meaningless.
    """
    train, test = splits["train"], splits["test"]
    _check_apart(train, test)
    names = sorted(_labels(train))
    if len(names) < 2:
        raise ConfigError(f"a target with one class ({names[0]!r}) cannot be learnt: list at least two labels")
    _say_alike(names, _labels(test))
    unseen = Counter(label for sample in test.samples.values() for label in sample.labels)
    unseen = {label: unseen[label] for label in sorted(unseen.keys() - {*names})}
    if unseen:
        _drop_unseen(test, frozenset(names), unseen)
    if untested := sorted({*names} - _labels(test)):
        progress.say(f"target: {len(untested):,} labels have no test video, e.g. {untested[0]!r}")
    _say_several(splits)
    return names, [{"name": label, "num_samples": count} for label, count in unseen.items()]


def _labels(collected: Collected) -> set[str]:
    return set().union(*(sample.labels for sample in collected.samples.values()))


def _check_apart(train: Collected, test: Collected) -> None:
    if shared := sorted(train.samples.keys() & test.samples.keys()):
        first = train.samples[shared[0]]
        raise ConfigError(
            f"{len(shared):,} {_what(first)} are in both --train and --test, e.g. '{first.uri}': take them out of one"
        )
    uris = [{sample.uri for sample in split.samples.values()} for split in (train, test)]
    if both := uris[0] & uris[1]:
        progress.say(f"target: {len(both):,} videos have samples in both splits, e.g. '{min(both)}'")


def _what(sample: Sample) -> str:
    return "files" if sample.start_s is None and sample.end_s is None else "segments"


def _drop_unseen(test: Collected, known: frozenset[str], unseen: dict[str, int]) -> None:
    before = len(test.samples)
    for sample in [*test.samples.values()]:
        if kept := sample.labels & known:
            test.samples[sample.video_id] = replace(sample, labels=kept)
        else:
            test.drop(sample.video_id, "label_not_in_train")
    progress.say(
        f"target: {len(unseen):,} labels are only in --test, {_examples(unseen)}; {before - len(test.samples):,} of "
        f"{before:,} test samples have no other and are dropped"
    )
    check_not_empty(test, "test")


def _say_alike(names: Iterable[str], test_names: Iterable[str]) -> None:
    """Labels that differ in case and punctuation alone stay different, since nobody but the user knows."""
    written = defaultdict(set)
    for name in itertools.chain(names, test_names):
        written["".join(filter(str.isalnum, name.casefold())) or name].add(name)
    alike = [sorted(group) for group in written.values() if len(group) > 1]
    for group in alike[:SHOWN]:
        progress.say(f"target: labels written in several ways are several labels: {', '.join(map(repr, group))}")
    if len(alike) > SHOWN:
        progress.say(f"target: ... and {len(alike) - SHOWN:,} more of them")


def _say_several(splits: dict[str, Collected]) -> None:
    count = sum(len(sample.labels) > 1 for split in splits.values() for sample in split.samples.values())
    if count:
        progress.say(f"target: {count:,} samples have several labels: the target is multi-label")


def _examples(names: Iterable[str]) -> str:
    return f"e.g. {', '.join(map(repr, itertools.islice(names, SHOWN)))}"
