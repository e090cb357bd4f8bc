"""Annotation formats: samples written by hand from their public descriptions, hostile tables, and the real files, whole."""

import json
import re
from itertools import pairwise

import pytest

from dataset_builder.annotations.formats import FORMATS
from dataset_builder.annotations.splits import read_table
from pipeline.config import ConfigError, TargetConfig

KINETICS = (
    "label,youtube_id,time_start,time_end,split\nair drumming,0wR5jVB-WPk,417,427,train\n,xyz,1,2,test\na,b,9,9,val\n"
)
EPIC = (
    "uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,start_frame,stop_frame,verb,verb_class,noun,"
    "noun_class,all_nouns,all_noun_classes\n"
    "0,P01,P01_01,open door,00:00:00.14,00:01:03.37,8,202,open,2,door,8,['door'],[8]\n"
    '1,P26,P26_02,"put cup, plate",01:00:04.00,01:00:06.5,1,2,put,1,cup,13,"[\'cup\', \'plate\']","[13, 4]"\n'
    "2,P26,P26_02,stay,00:00:01.00,00:00:02.00,1,2,stay,,cup,13,['cup'],[13]\n"
)
SOMETHING_V1 = "100218;Something falling like a feather or paper\n24413;Unfolding something\n7\n"
SOMETHING_V2 = json.dumps(
    [
        {
            "id": "78687",
            "label": "holding potato next to bottle",
            "template": "Holding [something] next to [something]",
        },
        {"id": "42326"},
    ]
)
UCF = "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\nHandstandPushups/v_HandStandPushups_g01_c02.avi 37\n\nnonsense\n"
HMDB = "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \nA!b@[c]_u_cm.avi 2 \nunused_clip.avi 0 \n"
MOMENTS = "clapping/yt-0xAbc_12.mp4,clapping,4,0\npraying/flickr-1-2.mp4,praying,3,1\n,praying,3,0\n"
PLAIN = (
    "path,labels,start_s,end_s,group\na.mp4,run|jump; run,1.5,00:00:02.25,x\nb.mp4,run,,,\nb.mp4,,,,\nb.mp4,run,3,2,\n"
)

TEXTS = {
    "csv": PLAIN,
    "kinetics": KINETICS,
    "epic": EPIC,
    "something": SOMETHING_V1,
    "ucf101": UCF,
    "hmdb51": HMDB,
    "moments": MOMENTS,
}


def read(folder, text, name="table.csv", **options):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(str(path), TargetConfig(train=str(path), **options))


def brief(table):
    return [(a.labels, a.start_s, a.end_s, a.group, a.split) for a in table.annotations], dict(table.dropped)


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"hmdb51"}))
def test_auto_names_the_format_and_reads_what_naming_it_reads(tmp_path, name):
    form, table = read(tmp_path, TEXTS[name])
    assert form.name == name
    assert read(tmp_path, TEXTS[name], format=name)[1] == table


@pytest.mark.parametrize("name", sorted(TEXTS))
@pytest.mark.parametrize("other", sorted(TEXTS))
def test_a_wrong_format_says_what_was_expected_and_found(tmp_path, name, other):
    if name == other:
        return
    with pytest.raises(ConfigError, match=r"table.csv.*") as error:
        read(tmp_path, TEXTS[other], format=name)
    assert FORMATS[name].expected in str(error.value)
    assert re.split(r"[\s,;]", TEXTS[other])[0].lower() in str(error.value).lower()


def test_kinetics(tmp_path):
    _, table = read(tmp_path, KINETICS)
    assert brief(table) == ([(("air drumming",), 417.0, 427.0, None, "train")], {"no_label": 1, "bad_times": 1})
    assert table.annotations[0].fields["label_"] == "air_drumming"


@pytest.mark.parametrize(
    ("field", "labels", "unlabelled"),
    [
        ("action", [("verb 2 noun 8",), ("put noun 13",)], 1),
        ("verb", [("verb 2",), ("put",)], 1),
        ("noun", [("noun 8",), ("noun 13",), ("noun 13",)], 0),
        ("all_nouns", [("noun 8",), ("noun 13", "noun 4"), ("noun 13",)], 0),
    ],
)
def test_epic_labels(tmp_path, field, labels, unlabelled):
    (tmp_path / "EPIC_verb_classes.csv").write_text("verb_id,class_key,verbs\n1,put,\"['put', 'lay']\"\n")
    classes = (str(tmp_path / "EPIC_verb_classes.csv"),)
    _, table = read(tmp_path, EPIC, label_field=field, classes=classes)
    assert [annotation.labels for annotation in table.annotations] == labels
    assert table.dropped["no_label"] == unlabelled
    assert [(a.start_s, a.end_s, a.group) for a in table.annotations[:2]] == [
        (0.14, 63.37, "P01"),
        (3604.0, 3606.5, "P26"),
    ]


def test_epic_100_classes_and_ids(tmp_path):
    text = EPIC.replace("uid,", "narration_id,", 1).replace("\n1,P26", "\nP26_02_9,P26")
    (tmp_path / "EPIC_100_noun_classes_v2.csv").write_text('"id","key","instances","category"\n13,"cup","[]","x"\n')
    _, table = read(tmp_path, text, label_field="noun", classes=(str(tmp_path / "EPIC_100_noun_classes_v2.csv"),))
    assert (table.annotations[1].labels, table.annotations[1].uid) == (("cup",), "P26_02_9")


def test_epic_frames_need_a_rate(tmp_path):
    text = EPIC.replace("start_timestamp", "a").replace("stop_timestamp", "b")
    with pytest.raises(ConfigError, match="--frame-rate"):
        read(tmp_path, text)
    _, table = read(tmp_path, text, frame_rate=50.0)
    assert [(a.start_s, a.end_s) for a in table.annotations] == [(8 / 50, 202 / 50), (1 / 50, 2 / 50)]


def test_epic_participants_become_the_test_split(tmp_path):
    _, table = read(tmp_path, EPIC, test_participants=("P26",))
    assert [annotation.split for annotation in table.annotations] == ["train", "test"]
    with pytest.raises(ConfigError, match=r"--test-participants P99: not in .*P01, P26"):
        read(tmp_path, EPIC, test_participants=("P26", "P99"))


def test_epic_classes_are_told_apart_by_name(tmp_path):
    (tmp_path / "classes.csv").write_text("verb_id,class_key\n1,put\n")
    with pytest.raises(ConfigError, match="'verb' or 'noun'"):
        read(tmp_path, EPIC, classes=(str(tmp_path / "classes.csv"),))
    (tmp_path / "verb.csv").write_text("verb_id,class_key\n1,put\n2,put\n")
    with pytest.raises(ConfigError, match="the same name"):
        read(tmp_path, EPIC, classes=(str(tmp_path / "verb.csv"),))


def test_something_v1_and_v2_have_templates_as_labels(tmp_path):
    _, first = read(tmp_path, SOMETHING_V1)
    assert [(a.fields, a.labels) for a in first.annotations] == [
        ({"id": "100218"}, ("Something falling like a feather or paper",)),
        ({"id": "24413"}, ("Unfolding something",)),
    ]
    assert first.dropped == {"no_label": 1}
    _, second = read(tmp_path, SOMETHING_V2)
    assert [(a.fields, a.labels) for a in second.annotations] == [
        ({"id": "78687"}, ("Holding something next to something",))
    ]
    assert second.dropped == {"no_label": 1}


def test_ucf101_keeps_groups_apart_by_class(tmp_path):
    _, table = read(tmp_path, UCF)
    assert [(a.labels, a.group, a.fields["path"]) for a in table.annotations] == [
        (("ApplyEyeMakeup",), "ApplyEyeMakeup g08", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01"),
        (("HandstandPushups",), "HandstandPushups g01", "HandstandPushups/v_HandStandPushups_g01_c02"),
    ]
    assert table.dropped == {"broken_row": 1}


def test_hmdb51_is_a_folder_of_one_fold(tmp_path):
    for label, fold in (("brush_hair", 1), ("brush_hair", 2), ("wave", 1)):
        (tmp_path / f"{label}_test_split{fold}.txt").write_text(HMDB if fold == 1 else "other.avi 1\n")
    form, table = read_table(str(tmp_path), TargetConfig(train=str(tmp_path)))
    assert (form.name, table.splits) == ("hmdb51", {"train", "test", "neither"})
    assert [a.labels[0] for a in table.annotations] == ["brush_hair"] * 3 + ["wave"] * 3
    assert [a.fields["name"] for a in table.annotations[:2]] == [
        "April_09_brush_hair_u_nm_np1_ba_goo_0",
        "A!b@[c]_u_cm",
    ]
    assert [a.split for a in table.annotations[:3]] == ["train", "test", "neither"]
    assert len(read_table(str(tmp_path), TargetConfig(train=str(tmp_path), fold=2))[1].annotations) == 1


def test_moments(tmp_path):
    _, table = read(tmp_path, MOMENTS)
    assert [(a.fields["path"], a.labels) for a in table.annotations] == [
        ("clapping/yt-0xAbc_12", ("clapping",)),
        ("praying/flickr-1-2", ("praying",)),
    ]
    assert table.dropped == {"incomplete_row": 1}


def test_a_plain_table_may_have_segments_groups_and_several_labels(tmp_path):
    _, table = read(tmp_path, PLAIN)
    assert brief(table) == (
        [(("run", "jump"), 1.5, 2.25, "x", None), (("run",), None, None, None, None)],
        {"incomplete_row": 1, "bad_times": 1},
    )


@pytest.mark.parametrize("classes", ["run\nwalk\n", "1 run\n2 walk\n", "run,0\nwalk,1\n", '{"run": 0, "walk": 1}'])
def test_labels_outside_the_class_list_are_dropped(tmp_path, classes):
    path = tmp_path / ("classes.json" if classes.startswith("{") else "classes.txt")
    path.write_text(classes)
    _, table = read(tmp_path, "path,labels\na,run|jump\nb,jump\n", classes=(str(path),))
    assert brief(table) == ([(("run",), None, None, None, None)], {"label_not_in_classes": 1})


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfpath,label\na.mp4,run\nb.mp4,jump\n",
        b"path,label\r\na.mp4,run\r\nb.mp4,jump\r\n",
        b"path,label\ra.mp4,run\rb.mp4,jump\r",
        b'\n  \n"path" , "label"\n"a.mp4","run"\n\n   \n"b.mp4", "jump"\n\n',
        b"Path;Label;x\na.mp4;run;1\nb.mp4;jump\n",
        b"label\tpath\nrun\ta.mp4\njump\tb.mp4\textra\tmore\n",
    ],
    ids=["bom", "crlf", "cr", "quotes and blank lines", "semicolons", "tabs"],
)
def test_ways_to_write_the_same_table(tmp_path, text):
    _, table = read(tmp_path, text)
    assert [(a.fields["path"], a.labels) for a in table.annotations] == [("a.mp4", ("run",)), ("b.mp4", ("jump",))]
    assert not table.dropped


def test_a_quotation_mark_that_is_not_closed_costs_a_counted_row(tmp_path):
    _, table = read(tmp_path, 'path,label\na.mp4,run\n"b.mp4,jump\nc.mp4,run\n')
    assert (len(table.annotations), dict(table.dropped)) == (1, {"broken_row": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"path,path,label\na,b,c\n", "more than one column path"),
        (b"path,label,labels\na,b,c\n", "both a column label and a column labels"),
        (b"path,label\n\xff\xfe,run\n", "cannot read the target table"),
        (b"path,label\n" + b"x" * 200_000 + b",run\n", "line 2: field larger than field limit"),
        (b"file,label\na,b\n", r"no known format: found the first line 'file,label'"),
        (b"", "in no known format: found nothing"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


# ------------------------------------------------------------------------------------------------- real files

TEST_KITCHENS = tuple(f"P{number}" for number in range(26, 32))


def real(folder, name, **options):
    path = str(folder / "annotations" / name)
    return read_table(path, TargetConfig(train=path, **options))


def num_lines(folder, name):
    return len((folder / "annotations" / name).read_text().splitlines())


def test_epic_55_parses_whole(shared_data):
    classes = tuple(str(shared_data / f"annotations/epic55/EPIC_{kind}_classes.csv") for kind in ("verb", "noun"))
    _, table = real(
        shared_data, "epic55/EPIC_train_action_labels.csv", classes=classes, test_participants=TEST_KITCHENS
    )
    assert len(table.annotations) == table.num_rows == 28_472  # rows of the published table
    labels = {label for annotation in table.annotations for label in annotation.labels}
    assert {"open cupboard", "turn-on light"} <= labels
    assert {label.count(" ") for label in labels} == {1}  # no class has a space in its name: a pair has one name
    in_test = {annotation.group for annotation in table.annotations if annotation.split == "test"}
    assert in_test == {*TEST_KITCHENS}
    ends = sorted((a.fields["id"], a.start_s, a.end_s) for a in table.annotations)
    assert all(0 <= start < end for _, start, end in ends)
    assert any(a[0] == b[0] and b[1] < a[2] for a, b in pairwise(ends))  # segments overlap


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("epic55/EPIC_test_s1_timestamps.csv", 8047),  # paper, Section 3.2
        ("epic55/EPIC_test_s2_timestamps.csv", 2929),
        ("epic55/EPIC_train_invalid_labels.csv", 116),
        ("epic100/EPIC_100_test_timestamps.csv", None),
        ("kinetics/kinetics-600_test.csv", None),
    ],
)
def test_tables_without_labels_parse_whole(shared_data, name, rows):
    _, table = real(shared_data, name)
    assert table.dropped == {"no_label": rows or num_lines(shared_data, name) - 1}
    assert not table.annotations


def test_kinetics_400_parses_whole(shared_data):
    _, table = real(shared_data, "kinetics/kinetics-400_val.csv")
    assert len(table.annotations) == table.num_rows == num_lines(shared_data, "kinetics/kinetics-400_val.csv") - 1
    labels = {annotation.labels[0] for annotation in table.annotations}
    assert labels == {*(shared_data / "labels/kinetics400.txt").read_text().splitlines()}
    assert {annotation.end_s - annotation.start_s for annotation in table.annotations} == {10.0}


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_ucf101_parses_whole_and_its_groups_lie_in_one_split(shared_data, fold):
    classes = (str(shared_data / "annotations/ucf101/classInd.txt"),)
    splits = [real(shared_data, f"ucf101/{s}list0{fold}.txt", classes=classes)[1] for s in ("train", "test")]
    assert sum(len(table.annotations) for table in splits) == 13_320  # clips of UCF101
    assert not any(table.dropped for table in splits)
    groups = [{annotation.group for annotation in table.annotations} for table in splits]
    assert len(groups[0] | groups[1]) == 101 * 25
    assert not groups[0] & groups[1]


def test_no_real_file_is_taken_for_another_format(shared_data):
    for folder, name in (("epic55", "epic"), ("epic100", "epic"), ("kinetics", "kinetics"), ("ucf101", "ucf101")):
        for path in sorted((shared_data / "annotations" / folder).iterdir()):
            text = path.read_text()
            able = {form.name for form in FORMATS.values() if form.recognise(text)}
            assert able <= {name}, path.name
