"""The shipped label sets follow from the lists that they name."""

import zipfile
from importlib import resources

import pytest

from dataset_builder.hashtags import normalise
from dataset_builder.label_sets.derive import kinetics_verbs, main, verbnet_verbs
from dataset_builder.seeds import shipped_labels


def shipped(kind):
    return (resources.files("dataset_builder") / "label_sets" / f"{kind}.txt").read_bytes()


def rows(kind):
    return [line.split("\t") for line in shipped(kind).decode().splitlines() if not line.startswith("#")]


def test_deriving_again_gives_the_same_bytes(shared_data, tmp_path, capsys):
    main(["--labels", str(shared_data / "labels"), "--out", str(tmp_path)])
    said = capsys.readouterr().out
    for kind in ("kinetics", "noun", "verb"):
        assert (tmp_path / f"{kind}.txt").read_bytes() == shipped(kind)
        assert f"{kind}: {len(shipped_labels(kind)):,} labels" in said


@pytest.mark.parametrize("kind", ["kinetics", "noun", "verb"])
def test_every_file_names_its_source_and_licence(kind):
    comments = [line for line in shipped(kind).decode().splitlines() if line.startswith("# ")]
    assert "Licence" in " ".join(comments)


def test_every_synset_of_imagenet_has_a_label(shared_data):
    synsets = (shared_data / "labels/imagenet/imagenet_synsets.txt").read_text().split()
    named = [synset for _, origin in rows("noun") for synset in origin.split()]
    assert len(synsets) == 1000
    assert set(named) == set(synsets)


def test_a_word_of_two_synsets_is_one_label_of_both():
    origins = dict(rows("noun"))
    assert origins["crane"] == "n02012849 n03126707"  # bird, machine
    assert origins["maillot"] == "n03710637 n03710721"
    assert len({normalise(label) for label in origins}) == len(origins)


@pytest.mark.parametrize(
    ("label", "verbs"),
    [
        ("catching fish", ("catch",)),
        ("catching or throwing baseball", ("catch", "throw")),
        ("air drumming", ("drum",)),
        ("punching person (boxing)", ("punch",)),
        ("swinging on something", ("swing",)),
        ("snowmobiling", ("snowmobile",)),
        ("golf putting", ("putt",)),
        ("dying hair", ("dye",)),
        ("clean and jerk", ("clean", "jerk")),
        ("yoga", ()),
    ],
)
def test_verbs_of_kinetics_labels(label, verbs):
    assert kinetics_verbs(label) == verbs


def test_every_kinetics_label_gives_verbs_that_are_shipped():
    origins = dict(rows("verb"))
    for label in shipped_labels("kinetics"):
        assert all("kinetics" in origins[verb] for verb in kinetics_verbs(label))


def test_a_label_without_a_verb_is_refused():
    with pytest.raises(ValueError, match="'shuttlecock'"):
        kinetics_verbs("shuttlecock")


def test_verbs_of_verbnet_with_four_senses_over_all_classes(tmp_path):
    members = {
        "a-1.xml": {"run": "run%2:38:00 run%2:38:04", "amble": "amble%2:38:00", "be": ""},
        "b-2.xml": {
            "run": "?run%2:30:00 run%2:38:00",
            "go_on": "go_on%2:30:00 go_on%2:30:01 go_on%2:30:02 go_on%2:30:03",
        },
        "c-3.xml": {"run": "run%2:41:00"},
    }
    with zipfile.ZipFile(tmp_path / "verbnet.zip", "w") as archive:
        archive.writestr("verbnet/README", "no class")
        for file, senses in members.items():
            rows = "".join(f'<MEMBER name="{verb}" wn="{keys}"/>' for verb, keys in senses.items())
            archive.writestr(
                f"verbnet/{file}", f"<VNCLASS><SUBCLASSES><MEMBERS>{rows}</MEMBERS></SUBCLASSES></VNCLASS>"
            )
    assert verbnet_verbs(tmp_path / "verbnet.zip") == ["run"]
