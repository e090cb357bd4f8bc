"""The simulated platform keeps its promises: pure functions, the stated shares, real files, and motion as the only cue."""

import csv
import hashlib
import io
import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.world import WorldConfig, describe_post, describe_target, describe_video, render_video, write_world
from pipeline.world.duplicates import TRANSFORMS, duplicate_frames
from pipeline.world.motion import MOTIONS, TRAVEL, poses
from pipeline.world.objects import sprite_layers
from pipeline.world.posts import KINDS, label_probabilities
from pipeline.world.randomness import Purpose
from pipeline.world.render import plan_video, render_frames
from pipeline.world.vocabulary import NOUNS, UNRELATED_TAGS, VERBS, label_forms, label_name, near_miss_forms

SMALL = WorldConfig(
    num_posts=30, num_verbs=3, num_nouns=2, num_target_verbs=4, num_target_nouns=2,
    train_videos_per_class=1, test_videos_per_class=2, short_side_px=(48, 64), duration_s=(1.0, 1.5), long_rate=0.0,
    duplicate_rate=0.2, black_rate=0.1, broken_rate=0.1, repost_rate=0.1,
)  # fmt: skip
MANY = WorldConfig(num_posts=6000)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(SMALL, tmp_path_factory.mktemp("world"), progress=False)


@pytest.fixture(scope="module")
def many_posts():
    return [describe_post(MANY, index) for index in range(MANY.num_posts)]


def _decode(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _normalise(tag: str) -> str:
    return "".join(letter for letter in tag.casefold() if letter.isalnum())


def _within_binomial(successes: int, trials: int, rate: float) -> bool:
    return abs(successes - trials * rate) <= 4.5 * math.sqrt(trials * rate * (1 - rate)) + 1


def _rows(world) -> list[dict]:
    return pq.read_table(world.truth_path).to_pylist()


# --------------------------------------------------------------------------------------------------- pure functions


def test_another_process_renders_the_same_bytes():
    code = (
        "import hashlib; from pipeline.world import *;"
        "config = WorldConfig(duplicate_rate=0.3, black_rate=0.1, broken_rate=0.1);"
        "print([hashlib.sha256(render_video(config, i)).hexdigest() for i in (7, 3, 12, 5)])"
    )
    root = Path(__file__).resolve().parents[2]
    there = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    config = WorldConfig(duplicate_rate=0.3, black_rate=0.1, broken_rate=0.1)
    here = [hashlib.sha256(render_video(config, index)).hexdigest() for index in (7, 3, 12, 5)]
    assert there.strip() == str(here)


def test_a_larger_world_begins_with_the_smaller_one():
    larger = replace(SMALL, num_posts=1000)
    assert all(describe_post(SMALL, index) == describe_post(larger, index) for index in range(SMALL.num_posts))


def test_another_seed_is_another_world():
    assert render_video(SMALL, 0) != render_video(replace(SMALL, seed=1), 0)
    assert label_probabilities(MANY) != label_probabilities(replace(MANY, seed=1))


# --------------------------------------------------------------------------------------------------- posts


def test_labels_follow_zipf(many_posts):
    shares = label_probabilities(MANY)
    ranked = sorted(shares.values(), reverse=True)
    assert np.allclose(ranked, ranked[0] / np.sqrt(np.arange(1, 33)))  # exponent 0.5
    videos = [post.video for post in many_posts if not post.is_repost and post.video.kind == "action"]
    counts = Counter(video.topic for video in videos)
    chi_square = sum(
        (counts[label] - len(videos) * share) ** 2 / (len(videos) * share) for label, share in shares.items()
    )
    freedom = len(shares) - 1
    assert chi_square < freedom + 4.5 * math.sqrt(2 * freedom)


def test_kinds_have_the_stated_shares(many_posts):
    videos = [post.video for post in many_posts if not post.is_repost]
    assert _within_binomial(len(many_posts) - len(videos), len(many_posts), MANY.repost_rate)
    counts = Counter(video.kind for video in videos)
    for kind in KINDS[1:]:
        assert _within_binomial(counts[kind], len(videos), getattr(MANY, f"{kind}_rate")), kind
    assert _within_binomial(sum(video.duration_s > MANY.duration_s[1] + 0.5 for video in videos if video.duplicate is None),
                            len(videos) - counts["duplicate"], MANY.long_rate)  # fmt: skip


def test_labels_are_wrong_at_the_stated_rate(many_posts):
    labelled = [post for post in many_posts if post.shown_labels]
    assert _within_binomial(sum(post.shown_labels[0] != post.video.topic for post in labelled), len(labelled), 0.2)
    assert all(len(set(post.shown_labels)) == len(post.shown_labels) <= 2 for post in labelled)
    assert any(len(post.shown_labels) == 2 for post in labelled)


def test_hashtags_name_exactly_the_shown_labels(many_posts):
    labels_of = {"".join(words): label for label in MANY.source_labels for words in label_forms(*label)}
    for post in many_posts:
        tags = post.hashtags or [word for word in post.caption.split() if word.startswith("#")]
        assert 1 <= len(tags) <= 10
        assert {labels_of[_normalise(tag)] for tag in tags if _normalise(tag) in labels_of} == set(post.shown_labels)
        assert bool(post.shown_labels) == (post.video.kind != "untagged")
    assert _within_binomial(sum(not post.hashtags for post in many_posts), len(many_posts), MANY.caption_only_rate)


def test_words_of_a_label_as_tags_of_their_own_change_nothing_else():
    worded = replace(MANY, num_posts=200, word_tag_rate=1.0)
    for index in range(200):
        post, usual = describe_post(worded, index), describe_post(MANY, index)
        assert replace(post, hashtags=(), caption="") == replace(usual, hashtags=(), caption="")
        tags = {
            _normalise(tag) for tag in post.hashtags or post.caption.split() if tag.startswith("#") or post.hashtags
        }
        assert {word for verb, noun in post.shown_labels for word in (VERBS[verb], noun)} <= tags


def test_no_other_tag_names_a_label():
    every = WorldConfig(num_verbs=len(VERBS), num_nouns=len(NOUNS) - 1, num_target_nouns=1).source_labels
    forms = {"".join(words) for label in every for words in label_forms(*label)}
    others = {"".join(words) for label in every for words in near_miss_forms(*label)} | set(UNRELATED_TAGS)
    assert len(UNRELATED_TAGS) >= 60
    assert not forms & others
    assert len(forms) == 4 * len(every)  # and no hashtag names two labels


def test_durations_lie_between_one_second_and_a_minute(many_posts):
    durations = [post.video.duration_s for post in many_posts]
    assert min(durations) > 0.95
    assert max(durations) < 60.1
    assert np.median(durations) < 3
    long = [post.video for post in many_posts if post.video.kind == "action" and post.video.duration_s > 10]
    assert long
    assert all(video.end_s - video.start_s < 0.7 * video.duration_s for video in long)
    assert all(0 <= video.start_s < video.end_s <= video.duration_s + 1e-9 for video in long)


def test_sizes_rates_and_shapes_vary(many_posts):
    videos = [post.video for post in many_posts[:500]]
    assert len({video.fps for video in videos}) >= 5
    assert len({round(video.width / video.height, 1) for video in videos}) >= 4
    assert all(video.width % 2 == 0 and video.height % 2 == 0 for video in videos)


# --------------------------------------------------------------------------------------------------- the world on disk


def test_posts_and_truth_agree(world):
    posts = [json.loads(line) for line in world.posts_path.read_text().splitlines()]
    source = [row for row in _rows(world) if row["split"] == "source"]
    assert world.counts["posts"] == len(posts) == SMALL.num_posts
    assert world.counts["videos"] == len(source) == sum(world.counts[kind] for kind in KINDS)
    assert world.counts["posts"] == world.counts["videos"] + world.counts["reposts"]
    assert sorted(id_ for row in source for id_ in row["post_ids"]) == sorted(post["post_id"] for post in posts)
    uri_of = {id_: row["video_uri"] for row in source for id_ in row["post_ids"]}
    assert all(uri_of[post["post_id"]] == post["video_uri"] for post in posts)
    for row in source:
        assert (row["true_label"] is None) == (row["kind"] in ("black", "broken"))
        assert row["tags_correct"] == (row["true_label"] in row["shown_labels"] if row["shown_labels"] else None)
        assert (row["duplicate_of"] is not None) == (row["kind"] == "duplicate")
    labels = world.seed_labels_path.read_text().splitlines()
    assert labels == [
        "rolling ball",
        "rolling cube",
        "bouncing ball",
        "bouncing cube",
        "spinning ball",
        "spinning cube",
    ]


def test_files_are_what_the_truth_says(world):
    kinds = Counter()
    for row in _rows(world):
        kinds[row["kind"]] += 1
        if row["kind"] == "broken":
            with pytest.raises(av.FFmpegError):
                av.open(row["video_uri"]).close()
            continue
        with av.open(row["video_uri"]) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert (stream.width, stream.height) == (row["width"], row["height"])
            assert float(stream.average_rate) == pytest.approx(row["fps"], rel=1e-3)
            frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert len(frames) == row["num_frames"]
        assert (max(frame.max() for frame in frames) < 24) == (row["kind"] == "black")
    assert set(kinds) == {*KINDS, "target"}


def test_target_tasks_label_the_same_videos(world):
    tables = {}
    for task in ("verb", "noun", "verb_noun"):
        for split in ("train", "test"):
            with open(world.target_csv(task, split)) as file:
                tables[task, split] = {row["path"]: row["label"] for row in csv.DictReader(file)}
    for split, per_class in (("train", 1), ("test", 2)):
        verbs, nouns, both = (tables[task, split] for task in ("verb", "noun", "verb_noun"))
        assert Counter(verbs.values()) == dict.fromkeys(["rolling", "bouncing", "spinning", "shaking"], per_class)
        assert set(nouns.values()) == {"star", "cross"}  # never those of the source
        assert both == {path: f"{verbs[path]} {nouns[path]}" for path in verbs}
    assert not tables["verb", "train"].keys() & tables["verb", "test"].keys()
    backgrounds = {split: {row["background"] for row in _rows(world) if row["kind"] in ("action", "target")
                           and (row["split"] == "source") == (split == "source")} for split in ("source", "target")}  # fmt: skip
    assert not backgrounds["source"] & backgrounds["target"]


def test_missing_files_come_back_the_same_and_nothing_else_is_touched(world):
    root = Path(world.root)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}
    videos = sorted((root / "videos").iterdir())
    for path in (videos[0], videos[4], root / "targets" / "videos" / "000002.mp4"):
        path.unlink()
    again = write_world(SMALL, root, num_workers=2, progress=False)
    assert again.num_rendered == 3
    assert again.counts == world.counts
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}
    assert {path: data for path, (data, _) in after.items()} == {path: data for path, (data, _) in before.items()}
    assert sum(after[path][1] != before[path][1] for path in videos) == 2
    assert write_world(SMALL, root, progress=False).num_rendered == 0


def test_another_config_is_refused_by_name(world):
    with pytest.raises(ValueError, match=r"zipf_exponent: 0\.5 there, 1\.0 asked"):
        write_world(replace(SMALL, zipf_exponent=1.0), world.root, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_verbs": 99}, "num_verbs"),
        ({"num_nouns": 14}, "num_nouns"),
        ({"wrong_label_rate": 1.5}, "wrong_label_rate"),
        ({"duration_s": (4.0, 1.0)}, "duration_s"),
        ({"untagged_rate": 0.9, "black_rate": 0.2}, "more than 1"),
    ],
)
def test_impossible_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        WorldConfig(**change)


# --------------------------------------------------------------------------------------------------- planted copies


def test_planted_copies_show_their_target():
    config = replace(SMALL, duplicate_rate=1.0, black_rate=0.0, broken_rate=0.0, untagged_rate=0.0)
    found = {}
    for index in range(60):
        copy = describe_video(config, index).duplicate
        found.setdefault(copy.transform, (index, copy))
    assert set(found) == set(TRANSFORMS)
    for transform, (index, copy) in found.items():
        plan = describe_target(config, copy.target_index).plan
        target = np.stack(list(render_frames(config, plan)))[-copy.num_copied :].astype(float)
        frames = np.stack(list(duplicate_frames(config, copy)))
        assert frames.shape == (copy.num_frames, copy.height, copy.width, 3)
        copied = frames[copy.first_frame : copy.first_frame + copy.num_copied].astype(float)
        if transform == "mirror":
            copied = copied[:, :, ::-1]
        if transform == "crop":
            top, left = copy.crop_top_px, copy.crop_left_px
            target = target[:, top : top + copy.height, left : left + copy.width]
            assert copy.height * copy.width < 0.95 * plan.height * plan.width
        if transform == "rescale":
            assert abs(copied.mean() - target.mean()) < 2
        else:
            assert np.array_equal(copied, target), transform
        assert _decode(render_video(config, index)).shape == frames.shape
        assert describe_post(config, index).shown_labels


# --------------------------------------------------------------------------------------------------- motion is the cue


@pytest.mark.parametrize("verb", VERBS)
def test_position_angle_and_size_tell_no_verb(verb):
    """Mean and variance of the position, and the distribution of angle and size, against those of a uniform square."""
    rng = np.random.default_rng(0)
    one_frame = [poses(verb, np.array([rng.uniform(0, 3)]), rng.uniform(0.8, 1.3), 0.2, rng) for _ in range(3000)]
    x, y, angle, size = (
        np.array([getattr(pose, name)[0] for pose in one_frame]) for name in ("x", "y", "angle", "size")
    )
    for position in (x, y):
        assert abs(position.mean()) < 0.015
        assert position.std() == pytest.approx(TRAVEL / math.sqrt(12), rel=0.06)
    for share in (angle / (2 * math.pi) % 1, size):
        assert np.histogram(share, bins=10, range=(0, 1))[0] == pytest.approx(300, abs=80)
    assert set(MOTIONS) == set(VERBS)


def _linear_accuracy(features: np.ndarray, labels: np.ndarray, num_train: int) -> float:
    """Ridge regression on one-hot labels: accuracy on the rows after `num_train`."""
    features = (features - features[:num_train].mean(0)) / (features[:num_train].std(0) + 1e-6)
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    train, wanted = features[:num_train], np.eye(labels.max() + 1)[labels[:num_train]]
    weights = np.linalg.solve(train.T @ train + 30 * np.eye(train.shape[1]), train.T @ wanted)
    return float(((features[num_train:] @ weights).argmax(1) == labels[num_train:]).mean())


def test_a_single_frame_does_not_tell_the_verb_but_differences_do():
    config = WorldConfig(
        camera_shake=0.0, aspect_ratios=(1.0,), short_side_px=(48, 48), frame_rates=(12.0,), long_rate=0.0
    )
    verbs, num_videos = config.target_verbs[:8], 640
    labels = np.arange(num_videos) % len(verbs)
    stills, differences = [], []
    for index, verb_id in enumerate(labels):
        plan = plan_video(config, Purpose.SOURCE_VIDEO, index, verbs[verb_id], NOUNS[index % 3], duration_s=(1.4, 1.4))
        frames = np.stack(list(render_frames(config, plan))).astype(np.float32) / 255
        small = frames.reshape(len(frames), 12, 4, 12, 4, 3).mean(axis=(2, 4))
        stills.append(small[len(small) // 2].ravel())
        # How much of each frame lies where, whatever its background: the moments of what differs from the median frame.
        change = np.abs(np.diff(small, axis=0)).sum(axis=-1)
        energy = change.sum(axis=(1, 2)) + 1e-6
        axis = np.arange(12)
        centre_x = (change.sum(axis=1) @ axis) / energy
        centre_y = (change.sum(axis=2) @ axis) / energy
        steps = [np.diff(centre_x), np.diff(centre_y)]
        differences.append([centre_x.std(), centre_y.std(), energy.std() / energy.mean(), np.median(energy),
                            np.sign(steps[1]).mean(), *(np.abs(step).mean() for step in steps),
                            *(np.median(np.abs(step)) for step in steps)])  # fmt: skip
    order = np.random.default_rng(0).permutation(num_videos)
    labels, stills, differences = labels[order], np.array(stills)[order], np.array(differences)[order]
    chance = 1 / len(verbs)
    assert _linear_accuracy(stills, labels, 400) < chance + 0.075  # 3.5 standard deviations of 240 guesses
    assert _linear_accuracy(differences, labels, 400) > 3 * chance


def test_objects_differ_in_shape_and_are_seen_to_turn():
    covers = {noun: sprite_layers(noun) for noun in NOUNS}
    for noun, layers in covers.items():
        whole = layers.sum(axis=-1)
        assert 0.1 < whole.mean() < 0.7
        assert whole[[0, -1]].sum() == whole[:, [0, -1]].sum() == 0  # a painted object never smears along its box
        for turns in (1, 2, 3):
            assert np.abs(layers - np.rot90(layers, turns)).mean() > 0.04, noun
    for one in NOUNS:
        for other in NOUNS:
            if one < other:
                assert np.abs(covers[one].sum(-1) - covers[other].sum(-1)).mean() > 0.02


def test_labels_read_as_participle_and_noun():
    assert label_name("zigzag", "ball") == "zigzagging ball"
    assert {"".join(words) for words in label_forms("roll", "ball")} == {
        "rollingball",
        "ballrolling",
        "rollball",
        "ballroll",
    }
    assert len(VERBS) >= 12
    assert len(NOUNS) >= 12
