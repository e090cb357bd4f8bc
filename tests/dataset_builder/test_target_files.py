"""Which file is the video of an annotation: templates tried in order against what is in the folder."""

import fsspec
import pytest

from dataset_builder.annotations import epic, kinetics
from dataset_builder.annotations.files import VideoFiles, check_template
from pipeline.config import ConfigError

CLIP = {"id": "a-_b", "label": "air drumming", "label_": "air_drumming", "split": "val", "start": 7, "end": 17}
SEGMENT = {"id": "P01_01", "participant": "P01", "uid": "12"}


def found(folder, videos, templates, fields):
    result = VideoFiles(str(videos), templates).find(fields)
    return result and (result.uri.removeprefix(f"{folder}/"), result.is_segment)


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("name", "is_segment"),
    [
        ("a-_b_000007_000017.mp4", True),
        ("air drumming/a-_b_000007_000017.webm", True),
        ("air_drumming/a-_b.mkv", False),
        ("val/a-_b_7_17.MP4", True),
        ("val/air drumming/a-_b.avi", False),
    ],
)
def test_names_that_kinetics_is_kept_under(tmp_path, name, is_segment):
    make(tmp_path, name, "a-_b_000007_000018.mp4", "a-_b.txt", "train/a-_b.mp4")
    assert found(tmp_path, tmp_path, kinetics.TEMPLATES, CLIP) == (name, is_segment)


@pytest.mark.parametrize(
    "name", ["P01_01.MP4", "P01/P01_01.mp4", "P01/videos/P01_01.MP4", "videos/train/P01/P01_01.MP4"]
)
def test_names_that_epic_kitchens_is_kept_under(tmp_path, name):
    make(tmp_path, name, "P01/P01_011.mp4")
    assert found(tmp_path, tmp_path, epic.TEMPLATES, SEGMENT) == (name, False)


def test_a_trimmed_file_is_preferred_to_the_whole_video(tmp_path):
    make(tmp_path, "a-_b.mp4", "a-_b_000007_000017.avi", "a-_b_000007_000017.mkv")
    assert found(tmp_path, tmp_path, kinetics.TEMPLATES, CLIP) == ("a-_b_000007_000017.mkv", True)


def test_a_template_of_ones_own(tmp_path):
    make(tmp_path, "x/clip-a-_b.mp4", "x/clip-a-_b.avi", "x/7-a-_b.mp4")
    assert found(tmp_path, tmp_path / "x/clip-{id}.avi", (), CLIP) == ("x/clip-a-_b.avi", False)
    assert found(tmp_path, tmp_path / "x/clip-{id}", (), CLIP) == ("x/clip-a-_b.mp4", False)
    assert found(tmp_path, tmp_path / "x" / "{start}-{id}", (), CLIP) == ("x/7-a-_b.mp4", True)
    assert found(tmp_path, tmp_path / "x" / "{id}", (), CLIP) is None


def test_annotations_do_not_lead_out_of_the_folder(tmp_path):
    make(tmp_path, "videos/in.mp4", "out.mp4")
    assert found(tmp_path, tmp_path / "videos", ("{id}",), {"id": "../out"}) is None
    assert found(tmp_path, tmp_path / "videos", ("{id}",), {"id": f"{tmp_path}/out"}) is None


def test_linked_folders_are_searched_and_loops_end(tmp_path):
    make(tmp_path, "real/a.mp4", "videos/b.mp4")
    (tmp_path / "videos/link").symlink_to(tmp_path / "real")
    (tmp_path / "real/loop").symlink_to(tmp_path / "videos")
    (tmp_path / "videos/dangling").symlink_to(tmp_path / "nowhere")
    assert found(tmp_path, tmp_path / "videos", ("link/{id}",), {"id": "a"}) == ("videos/link/a.mp4", False)


def test_an_object_store_is_listed_and_a_web_server_believed():
    fsspec.filesystem("memory").pipe_file("/target-files/deep/a.mp4", b"x")
    files = VideoFiles("memory://target-files", ("{id}", "deep/{id}"))
    assert files.find({"id": "a"}).uri == "memory://target-files/deep/a.mp4"
    assert files.find({"id": "b"}) is None
    assert VideoFiles("https://host/v/{id}.mp4", ()).find({"id": "b"}).uri == "https://host/v/b.mp4"
    with pytest.raises(ConfigError, match=r"cannot be listed; give a template like https://host/v/\{id\}.mp4"):
        VideoFiles("https://host/v", ("{id}",))


def test_what_is_wrong_with_a_template_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"other names in braces than these annotations: \{id\}, \{label\}"):
        check_template(VideoFiles(str(tmp_path / "{uid}.mp4"), ()), {"id": "a", "label": "b"})
    with pytest.raises(ConfigError, match="cannot be filled"):
        VideoFiles(str(tmp_path / "{id:06d}.mp4"), ()).find({"id": "a"})
    with pytest.raises(ConfigError, match="is no template"):
        VideoFiles(str(tmp_path / "{id.mp4"), ()).find({"id": "a"})
    with pytest.raises(ConfigError, match="is no folder"):
        VideoFiles(str(tmp_path / "gone"), ("{id}",))
