"""The shipped label sets follow from the lists that they name."""

import zipfile
from importlib import resources

import pytest

from dataset_builder.hashtags import normalise
from dataset_builder.label_sets.derive import kinetics_verbs, main, verbnet_class_verbs
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


def test_classes_of_verbnet_named_by_a_verb(tmp_path):
    files = {
        "run-51.3.2.xml": '<VNCLASS ID="run-51.3.2"><MEMBERS><MEMBER name="run"/><MEMBER name="amble"/></MEMBERS></VNCLASS>',
        "other_cos-45.4.xml": '<VNCLASS ID="other_cos-45.4"><MEMBERS><MEMBER name="break_down"/></MEMBERS></VNCLASS>',
        "break_down-45.8.xml": '<VNCLASS ID="break_down-45.8"><MEMBERS><MEMBER name="die"/></MEMBERS></VNCLASS>',
        "cooking-45.3.xml": '<VNCLASS ID="cooking-45.3"><MEMBERS><MEMBER name="bake"/></MEMBERS></VNCLASS>',
    }
    with zipfile.ZipFile(tmp_path / "verbnet.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(f"verbnet/{name}", text)
    assert verbnet_class_verbs(tmp_path / "verbnet.zip") == ["run"]
