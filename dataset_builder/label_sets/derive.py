"""Writes the shipped label sets (paper, Section 3.1.1) from the lists that they come from; docs/label-spaces.md gives the rules.

    python -m dataset_builder.label_sets.derive --labels FOLDER [--out FOLDER]

`--labels` holds kinetics400.txt (the 400 labels of Kinetics-400), imagenet/imagenet_synsets.txt (the 1,000 synsets of
ILSVRC-2012), imagenet/imagenet_synset_to_lemma.txt (their WordNet lemmas) and nltk/verbnet3.zip (VerbNet 3.3).
"""

from __future__ import annotations

import argparse
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dataset_builder.hashtags import normalise, split_words
from dataset_builder.inflect import lemma

HERE = Path(__file__).parent
MIN_SENSES = 4  # of a VerbNet verb; gives 456 verbs with those of Kinetics, where the paper has 438
_REMARK = re.compile(r"\([^()]*\)")
_SENSE = re.compile(r"%2:(\d\d:\d\d)")
# Kinetics labels whose verb the rules of `kinetics_verbs` do not find: no verb, or another spelling of one.
_READ_BY_HAND: dict[str, tuple[str, ...]] = {
    "archery": (),
    "capoeira": (),
    "clean and jerk": ("clean", "jerk"),
    "dodgeball": (),
    "dying hair": ("dye",),
    "front raises": ("raise",),
    "golf putting": ("putt",),
    "hammer throw": ("throw",),
    "high jump": ("jump",),
    "high kick": ("kick",),
    "hockey stop": ("stop",),
    "hopscotch": (),
    "javelin throw": ("throw",),
    "long jump": ("jump",),
    "lunge": ("lunge",),
    "parkour": (),
    "pole vault": ("vault",),
    "pull ups": ("pull",),
    "push up": ("push",),
    "rock scissors paper": (),
    "shot put": ("put",),
    "side kick": ("kick",),
    "situp": (),
    "squat": ("squat",),
    "tai chi": (),
    "triple jump": ("jump",),
    "vault": ("vault",),
    "yoga": (),
    "zumba": (),
}


def kinetics_verbs(label: str) -> tuple[str, ...]:
    """Verbs of a Kinetics label in dictionary form: its words in -ing outside parentheses (golf chipping → chip).

    Raises: ValueError for a label without one that is not among those read by hand.
    """
    if label in _READ_BY_HAND:
        return _READ_BY_HAND[label]
    gerunds = [word for word in split_words(_REMARK.sub(" ", label)) if word.endswith("ing")]
    verbs = tuple(verb for word in gerunds if (verb := lemma(word, "verb")) != word)
    if not verbs:
        raise ValueError(f"no verb found in {label!r}: add it to _READ_BY_HAND")
    return verbs


def verbnet_verbs(verbnet: Path) -> list[str]:
    """Common verbs of VerbNet: one word, with at least four WordNet senses over all its classes.

    A member's `wn` lists its senses as lemma%2:file:number; common words are those of many senses.
    """
    senses: dict[str, set[str]] = defaultdict(set)
    with zipfile.ZipFile(verbnet) as archive:
        for file in archive.namelist():
            if file.endswith(".xml"):
                for member in ElementTree.fromstring(archive.read(file)).iter("MEMBER"):
                    senses[member.attrib["name"]] |= set(_SENSE.findall(member.attrib["wn"]))
    return sorted(verb for verb, found in senses.items() if verb.isalpha() and len(found) >= MIN_SENSES)


def kinetics_rows(labels: Path) -> Iterator[tuple[str, str]]:
    return ((label, "") for label in _lines(labels / "kinetics400.txt"))


def verb_rows(labels: Path) -> Iterator[tuple[str, str]]:
    """(verb, origin): "kinetics", "verbnet" or both."""
    from_kinetics = (verb for label in _lines(labels / "kinetics400.txt") for verb in kinetics_verbs(label))
    verbs = [(verb, "kinetics") for verb in from_kinetics]
    verbs += [(verb, "verbnet") for verb in verbnet_verbs(labels / "nltk" / "verbnet3.zip")]
    return _united(verbs)


def noun_rows(labels: Path) -> Iterator[tuple[str, str]]:
    """(noun, synset ids): every lemma of every synset."""
    synsets = set(_lines(labels / "imagenet" / "imagenet_synsets.txt"))
    lemmas = (line.split("\t") for line in _lines(labels / "imagenet" / "imagenet_synset_to_lemma.txt"))
    return _united((noun, synset) for synset, nouns in lemmas if synset in synsets for noun in nouns.split(", "))


def _united(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """One row per hashtag: of spellings that normalise alike (hotdog, hot dog) the one of most words; origins joined."""
    spellings: dict[str, set[str]] = defaultdict(set)
    origins: dict[str, set[str]] = defaultdict(set)
    for label, origin in rows:
        spellings[normalise(label)].add(label)
        origins[normalise(label)].add(origin)
    for key, found in spellings.items():
        yield max(found, key=lambda label: (len(split_words(label)), label)), " ".join(sorted(origins[key]))


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


HEADERS = {
    "kinetics": [
        "Labels of Kinetics-400 (Kay et al. 2017, arXiv:1705.06950). Licence: CC BY 4.0, Google.",
    ],
    "noun": [
        "WordNet lemmas of the 1,000 synsets of ImageNet-1K (ILSVRC-2012). Licence: WordNet 3.0, Princeton University.",
        "Columns, separated by a tab: label, WordNet ids of its synsets.",
    ],
    "verb": [
        "Verbs of the Kinetics-400 labels, and verbs of at least four senses in VerbNet 3.3; in dictionary form.",
        "Licences: CC BY 4.0, Google; VerbNet, University of Colorado, distributed with permission of its author.",
        "Columns, separated by a tab: label, where it comes from.",
    ],
}
ROWS = {"kinetics": kinetics_rows, "noun": noun_rows, "verb": verb_rows}


def write_label_sets(labels: Path, out: Path) -> dict[str, int]:
    """Write {out}/{kind}.txt for every kind; returns the number of labels of each."""
    counts = {}
    for kind, rows_of in ROWS.items():
        rows = sorted(rows_of(labels))
        lines = [f"# {line}" for line in HEADERS[kind]] + [f"{label}\t{origin}".strip() for label, origin in rows]
        (out / f"{kind}.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
        counts[kind] = len(rows)
    return counts


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="folder of the lists that the label sets come from")
    parser.add_argument(
        "--out", type=Path, default=HERE, help="folder of the label sets (default: where they are shipped)"
    )
    options = parser.parse_args(argv)
    for kind, count in write_label_sets(options.labels, options.out).items():
        print(f"{kind}: {count:,} labels")


if __name__ == "__main__":
    main()
