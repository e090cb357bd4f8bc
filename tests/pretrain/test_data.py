import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from dataset_builder.sampling import square_root_weights
from pipeline import artifacts, video
from pipeline.config import ClipConfig
from pretrain.data import FrameReader, MicrobatchSampler, SampleOrder, TrainingClips, microbatches
from pretrain.samples import SampleError, open_samples
from pretrain.virtual_workers import VirtualWorkers

CLIP = ClipConfig(length=4, stride=2, size_hw=(36, 40), crop_px=32)


@pytest.fixture(scope="module")
def samples(root):
    return open_samples(artifacts.dataset_files(str(root), "tiny"), "build it")


@pytest.fixture
def clips(samples) -> TrainingClips:
    return TrainingClips(samples, CLIP, seed=3)


# --------------------------------------------------------------------------------------------------- the order


def test_every_pass_has_each_video_as_often_as_its_weight():
    order = SampleOrder(np.array([1.0, 3.0, 0.0, 2.0, 1.0]), seed=0)
    assert order.num_slots == 7
    passes = [[order(number * 7 + within) for within in range(7)] for number in range(20)]
    assert all(Counter(one) == {0: 1, 1: 3, 3: 2, 4: 1} for one in passes)
    assert len({tuple(one) for one in passes}) > 15  # each pass has an order of its own


def test_fractions_of_weights_are_rounded_by_a_draw_that_keeps_their_mean():
    order = SampleOrder(np.full(10_000, 1.3), seed=0)
    assert order.num_slots == pytest.approx(13_000, abs=4 * (10_000 * 0.3 * 0.7) ** 0.5)


def test_a_virtual_pass_shows_labels_by_the_square_root_of_their_videos():
    """Of videos with one label each. With several, a video weighs what its rarest label asks for, so labels that share
    videos with rarer ones are seen more often than their own square root says."""
    counts = np.array([9000, 3000, 900, 250, 60])
    labels = np.repeat(np.arange(5), counts)
    weights = square_root_weights(labels, np.arange(len(labels) + 1), counts)
    expected = np.sqrt(counts) / np.sqrt(counts).sum()
    order = SampleOrder(weights, seed=1)
    whole = np.bincount(labels, np.diff(order.slot_ends, prepend=0))
    slots = np.sqrt(counts.max() * counts)  # n videos of sqrt(n_max / n) slots each
    assert np.abs(whole - slots).max() < 4 * np.sqrt(counts.max() / 4)  # the draws that round fractions of slots
    num_clips = 4000  # few enough that rounding stays far below the noise of the draw
    seen = np.bincount(labels[[order(position) for position in range(num_clips)]], minlength=5)
    assert stats.chisquare(seen, expected * num_clips).pvalue > 1e-3
    assert stats.chisquare(seen, counts / counts.sum() * num_clips).pvalue < 1e-6


def test_seeds_give_different_orders():
    first, second = (SampleOrder(np.ones(100), seed) for seed in (0, 1))
    assert [first(p) for p in range(100)] != [second(p) for p in range(100)]


@pytest.mark.parametrize("loader_workers", [0, 1, 2])
@pytest.mark.parametrize("world_size", [1, 2])
def test_the_sequence_does_not_depend_on_processes_or_loader_workers(clips, world_size, loader_workers):
    steps, batch, num_workers = 3, 2, 4
    expected = [clips[position] for position in range(steps * batch * num_workers)]
    seen = {}
    for rank in range(world_size):
        workers = VirtualWorkers(num_workers, batch, rank, world_size)
        for got in microbatches(clips, MicrobatchSampler(workers, 0, steps), loader_workers):
            for pixels, label, position in zip(got.clips_BTHWC, got.labels, got.positions, strict=True):
                seen[int(position)] = (pixels.numpy(), int(label))
    assert seen.keys() == set(range(len(expected)))
    for position, (pixels, label) in enumerate(expected):
        assert np.array_equal(seen[position][0], pixels)
        assert seen[position][1] == label


def test_starting_later_gives_the_rest_of_the_same_sequence(clips):
    workers = VirtualWorkers(2, 3)
    whole = [b.positions.tolist() for b in microbatches(clips, MicrobatchSampler(workers, 0, 4))]
    rest = [b.positions.tolist() for b in microbatches(clips, MicrobatchSampler(workers, 3, 4))]
    assert rest == whole[6:] == [[18, 19, 20], [21, 22, 23]]
    assert len(MicrobatchSampler(workers, 3, 4)) == 2


# --------------------------------------------------------------------------------------------------- the clips


def test_a_clip_is_a_window_of_frames_of_its_video(clips, samples):
    for position in range(10):
        sample = clips.order(position)
        whole = video.read_video(samples.read(sample), (36, 40))
        frames = clips.frame_numbers(sample, position)
        starts = {tuple((start + 2 * i) % len(whole) for i in range(4)) for start in range(max(1, len(whole) - 6))}
        assert tuple(frames) in starts
        pixels, label = clips[position]
        windows = [whole[frames, y : y + 32, x : x + 32] for y in range(36 - 32 + 1) for x in range(40 - 32 + 1)]
        assert sum(np.array_equal(pixels, window) for window in windows) == 1
        assert label in samples.labels_of(sample)


def test_both_labels_of_a_video_are_drawn_alike(clips, samples):
    sample = samples.keys.to_pylist().index("v0006")  # labels 0 and 2
    drawn = Counter(clips.label(sample, position) for position in range(2000))
    assert drawn.keys() == {0, 2}
    assert abs(drawn[0] - 1000) < 90  # 4 standard deviations


def test_kept_videos_give_the_same_frames_and_the_bound_holds(samples):
    one_video = 15 * 36 * 40 * 3
    reader, plain = FrameReader(samples, CLIP, cache_mb=1), FrameReader(samples, CLIP)
    for sample in list(range(len(samples))) * 2:
        frames = [0, 2, 4, 1]
        assert np.array_equal(reader.read(sample, frames), plain.read(sample, frames))
    kept = sum(frames.nbytes for frames in reader.cache.values())
    assert (1 << 20) - one_video < kept <= 1 << 20
    assert not plain.cache


def test_short_edge_keeps_the_aspect(samples):
    reader = FrameReader(samples, dataclasses.replace(CLIP, short_edge=True, size_hw=(32, 999)))
    assert reader.read(0, [0]).shape == (1, 32, 38, 3)  # 40×48 stored: 48 · 32 / 40 = 38.4, to an even number


def test_the_frame_rate_of_a_clip_sets_its_step(samples):
    assert FrameReader(samples, dataclasses.replace(CLIP, fps=8.0)).frame_step(0) == 4.0  # stored at 16


def test_a_sample_that_cannot_be_read_stops_with_its_key_and_shard(samples):
    columns = {**samples.columns, "video_offset": samples.columns["video_offset"] + 64}
    broken = dataclasses.replace(samples, columns=columns)
    with pytest.raises(SampleError, match=r"sample 'v0003' of shard '.*tiny-000000.tar'"):
        FrameReader(broken, CLIP).read(3, [0])
    loader = microbatches(TrainingClips(broken, CLIP, 0), MicrobatchSampler(VirtualWorkers(1, 2), 0, 1), 1)
    with pytest.raises(SampleError, match=r"sample 'v00.*' of shard '.*tiny"):
        next(loader)


def test_batches_are_uint8_and_int64(clips):
    batch = clips.__getitems__([5, 6])
    assert (batch.clips_BTHWC.shape, batch.clips_BTHWC.dtype) == ((2, 4, 32, 32, 3), torch.uint8)
    assert (batch.labels.dtype, batch.positions.tolist()) == (torch.int64, [5, 6])
