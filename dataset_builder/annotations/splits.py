"""--train and --test → the samples of both splits: read, divided where one table holds both, found among the videos."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from dataset_builder.annotations import epic, plain
from dataset_builder.annotations.classes import class_list
from dataset_builder.annotations.files import VideoFiles
from dataset_builder.annotations.formats import choose, files_of
from dataset_builder.annotations.rows import Annotation, Format, read_text
from dataset_builder.annotations.samples import Collected, collect_found, collect_listed
from dataset_builder.posts import posts_digest
from pipeline.config import ConfigError, TargetConfig

SPLITS = ("train", "test")
CANONICAL = {
    "training": "train",
    **dict.fromkeys(("validate", "validation", "valid", "dev"), "val"),
    "testing": "test",
}
"""Other names of splits that tables use."""


@dataclass(frozen=True)
class Table:
    """The annotation files that --train or --test names."""

    paths: list[str]
    annotations: list[Annotation]
    dropped: Counter[str]

    @property
    def num_rows(self) -> int:
        return len(self.annotations) + self.dropped.total()

    @cached_property
    def splits(self) -> set[str]:
        """Names of the splits in it; empty when it does not say."""
        return {_canonical(annotation.split) for annotation in self.annotations if annotation.split}


def read_splits(config: TargetConfig) -> tuple[dict[str, Collected], dict[str, str]]:
    """The samples of both splits, and digests of all that they were made from.

    Raises: ConfigError for a file in another format than expected, a split of which no row can be used, and settings that
        do not fit what the files hold.
    """
    if not config.train:
        raise ConfigError("a target needs both splits: set --train to a table of annotations, see docs/targets.md")
    form, train = read_table(config.train, config)
    test = train if config.test in ("", config.train) else read_table(config.test, config, form)[1]
    _check_options(config, form, train, test)
    digests = {"train": posts_digest(train.paths), "test": posts_digest(test.paths)}
    if config.classes:
        digests["classes"] = posts_digest(list(config.classes))
    files = None
    if form is not plain.FORMAT or "{" in config.videos:
        files = VideoFiles(config.videos, form.templates)
    collected = {}
    for split, table in zip(SPLITS, (train, test), strict=True):
        annotations, num_others = _of_split(table, split, config)
        if files is None:
            collected[split] = collect_listed(annotations, table.paths, config)
        else:
            collected[split], digests[f"{split}_videos"] = collect_found(annotations, table.paths, files, config)
        collected[split].dropped.update(table.dropped, other_split=num_others)
        check_not_empty(collected[split], split)
    return collected, digests


def read_table(path: str, config: TargetConfig, form: Format | None = None) -> tuple[Format, Table]:
    """Every row of the annotation files at `path`, and their format, which is `config.format` unless it is given."""
    paths, annotations, dropped = files_of(path, config), [], Counter()
    known = None
    for file in paths:
        text = read_text(file, "--train" if path == config.train else "--test")
        form = form or choose(config, file, text)
        known = known or (class_list(config.classes) if config.classes and not form.reads_classes else None)
        for row in form.read(text, file, config):
            row = row if known is None or isinstance(row, str) else _known_labels(row, known)
            if isinstance(row, str):
                dropped[row] += 1
            else:
                annotations.append(row)
    return form, Table(paths, annotations, dropped)


def _known_labels(annotation: Annotation, known: frozenset[str]) -> Annotation | str:
    labels = tuple(label for label in annotation.labels if label in known)
    return replace(annotation, labels=labels) if labels else "label_not_in_classes"


def _check_options(config: TargetConfig, form: Format, train: Table, test: Table) -> None:
    if config.test_participants and form is not epic.FORMAT:
        raise ConfigError(f"--test-participants is for EPIC-Kitchens, and '{config.train}' is {form.name}")
    if form is not plain.FORMAT and not config.videos:
        raise ConfigError(f"--videos is empty: name the folder of the videos that '{config.train}' ({form.name}) lists")
    if train is test and len(train.splits) < 2:
        hint = ", or hold out participants with --test-participants" if form is epic.FORMAT else ""
        raise ConfigError(
            f"a target needs both splits, and '{config.train}' does not say which of its rows are for training and which "
            f"for testing: set --test to the table of the test split{hint}"
        )


def _of_split(table: Table, split: str, config: TargetConfig) -> tuple[list[Annotation], int]:
    """Annotations of one split, and how many others there are; a table that holds a single split is taken whole."""
    if len(table.splits) < 2 and not config.test_participants:
        return table.annotations, 0
    wanted = _canonical(config.test_split) or _test_split(table) if split == "test" else split
    if wanted not in table.splits:
        raise ConfigError(
            f"'{table.paths[0]}' has no rows of the split '{wanted}', only of {', '.join(sorted(table.splits))}"
        )
    chosen = [annotation for annotation in table.annotations if _canonical(annotation.split or "") == wanted]
    return chosen, len(table.annotations) - len(chosen)


def _test_split(table: Table) -> str:
    able = sorted({"test", "val"} & table.splits)
    if len(able) == 2:
        raise ConfigError(
            f"'{table.paths[0]}' has both validation and test rows: choose one with --test-split val or test"
        )
    return able[0] if able else "test"


def _canonical(split: str) -> str:
    split = split.lower()
    return CANONICAL.get(split, split)


def check_not_empty(collected: Collected, split: str) -> None:
    """ConfigError with the reasons when no sample is left."""
    if collected.samples:
        return
    counts = collected.counts
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts["dropped"].items())
    message = f"--{split} '{collected.table}': none of its {counts['in']:,} rows can be used"
    message += f" ({reasons})" if reasons else ""
    if collected.missing:
        message += f". For the first one, there is no {collected.missing}"
    if "no_label" in counts["dropped"]:
        message += ". Labels of test splits are often not published"
    raise ConfigError(message)
