"""The inputs of the paper's Table 4: images, single frames and clips, from videos and from one-frame sources."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from dataset_builder.build import build
from pipeline import artifacts, storage
from pipeline.config import ClipConfig, ModelConfig, PretrainConfig, RecipeConfig
from pretrain import train
from pretrain.data import TrainingClips
from pretrain.samples import open_samples
from tests.dataset_builder.small_world import TINY_STORAGE, build_config, make_world, write_posts

CLIP = ClipConfig(length=1, size_hw=(32, 36), crop_px=32)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Six uploads, the first a picture, as the datasets `videos` (without the picture) and `images` (one frame of each)."""
    world = make_world(tmp_path_factory.mktemp("inputs"), 6)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(world / "0.png")
    rows = [json.loads(line) for line in (world / "posts.jsonl").read_text().splitlines()]
    write_posts(world / "posts.jsonl", [{**rows[0], "video_uri": "0.png"}, *rows[1:]])
    build(build_config(world, world / "out", "videos"))
    build(build_config(world, world / "out", "images", storage=dataclasses.replace(TINY_STORAGE, frames="one")))
    return world / "out"


def read(root, dataset: str, clip: ClipConfig) -> TrainingClips:
    return TrainingClips(open_samples(artifacts.dataset_files(str(root), dataset), ""), clip, seed=0)


@pytest.mark.parametrize(
    ("dataset", "model", "length"),
    [("videos", "r2d_10", 1), ("videos", "r2plus1d_10", 8), ("images", "r2d_10", 1), ("images", "r3d_10", 8)],
)
def test_networks_train_on_images_frames_and_clips(built, dataset, model, length):
    recipe = RecipeConfig(total_clips=4, virtual_workers=2, batch_per_gpu=2, warmup_clips=2, num_decays=1)
    clip = dataclasses.replace(CLIP, length=length)
    run = f"{dataset}-{model}"
    train.train(PretrainConfig(str(built), run, dataset, ModelConfig(model, 0.125), clip, recipe, tensorboard=False))
    marker = storage.read_json(artifacts.run_files(str(built), run).marker)
    assert marker["counts"]["kept"] == {"videos": 5, "images": 6}[dataset]
    assert marker["counts"]["clips_seen"] == 4


@pytest.mark.parametrize("clip_fps", [None, 4.0])
@pytest.mark.parametrize("length", [8, 24, 32])
def test_a_one_frame_video_is_looped_into_a_clip(built, length, clip_fps):
    pixels, _ = read(built, "images", dataclasses.replace(CLIP, length=length, fps=clip_fps))[0]
    assert pixels.shape == (length, 32, 32, 3)
    assert (pixels == pixels[0]).all()
    assert pixels.std() > 20


def test_frames_of_videos_are_any_of_theirs(built):
    clips = read(built, "videos", CLIP)
    num_frames = int(clips.samples.columns["num_frames"][0])
    assert {tuple(clips.frame_numbers(0, position)) for position in range(300)} == {(i,) for i in range(num_frames)}


@pytest.mark.parametrize(("length", "stride", "fps"), [(8, 1, None), (32, 1, None), (16, 2, None), (8, 1, 6.0)])
def test_clips_of_any_length_stride_and_rate_are_windows_looped_where_the_video_is_shorter(built, length, stride, fps):
    clips = read(built, "videos", dataclasses.replace(CLIP, length=length, stride=stride, fps=fps))
    step = stride if fps is None else stride * 12 // 6  # stored at 12 frames a second, 12 frames
    for position in range(30):
        frames = clips.frame_numbers(0, position)
        room = max(0, 12 - ((length - 1) * step + 1))
        assert 0 <= frames[0] <= room
        assert frames == [(frames[0] + i * step) % 12 for i in range(length)]
