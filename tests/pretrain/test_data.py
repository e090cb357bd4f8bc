import dataclasses
import hashlib
import multiprocessing
import pickle
import re
import subprocess
from collections import Counter

import numpy as np
import pytest
import torch

from pipeline import artifacts, video
from pipeline.config import ClipConfig
from pretrain.data import ATTEMPTS, UNREADABLE, MicrobatchSampler, TrainingClips, microbatches
from pretrain.reading import FrameReader
from pretrain.samples import SampleError, open_samples
from pretrain.virtual_workers import VirtualWorkers

CLIP = ClipConfig(length=4, stride=2, size_hw=(36, 40), crop_px=32)


@pytest.fixture(scope="module")
def samples(root):
    return open_samples(artifacts.dataset_files(str(root), "tiny"), "build it")


@pytest.fixture
def clips(samples) -> TrainingClips:
    return TrainingClips(samples, CLIP, seed=3)


# ------------------------------------------------------------------------------------------------ the sequence


@pytest.fixture(scope="module")
def some_unreadable(samples):
    """The same samples, of which every seventh lies elsewhere than the index says."""
    offsets = samples.columns["video_offset"] + 64 * (np.arange(len(samples)) % 7 == 3)
    return dataclasses.replace(samples, columns={**samples.columns, "video_offset": offsets})


def sequence(dataset: TrainingClips, world_size: int, loader_workers: int, steps: int = 2) -> dict[int, tuple]:
    """{position: (sample, label, hash of the pixels, whether one was replaced)} as `world_size` processes see it."""
    seen = {}
    for rank in range(world_size):
        sampler = MicrobatchSampler(VirtualWorkers(4, 3, rank, world_size), 0, steps)
        for batch in microbatches(dataset, sampler, loader_workers):
            pixels = [hashlib.sha256(clip.numpy().tobytes()).hexdigest() for clip in batch.clips_BTHWC]
            rows = zip(batch.positions.tolist(), batch.samples, batch.labels.tolist(), pixels, strict=True)
            for position, *row in rows:
                assert position not in seen
                seen[position] = (*row, len(batch.replaced))
    return seen


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_sequence_does_not_depend_on_processes_or_loader_workers(some_unreadable, world_size):
    dataset = TrainingClips(some_unreadable, CLIP, seed=3, shuffle_shards=2, replace=True)
    expected = sequence(dataset, 1, 0)
    assert expected.keys() == set(range(2 * 4 * 3))
    assert sum(row[-1] for row in expected.values()) > 0
    for loader_workers in (0, 1, 3):
        assert sequence(dataset, world_size, loader_workers) == expected


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


@pytest.mark.parametrize("loader_workers", [0, 1])
def test_loader_processes_hand_an_unreadable_sample_on_in_plain_words(some_unreadable, loader_workers):
    clips = TrainingClips(some_unreadable, CLIP, seed=0)
    with pytest.raises(SampleError) as caught:
        list(microbatches(clips, MicrobatchSampler(VirtualWorkers(1, 2), 0, 12), loader_workers))
    assert re.fullmatch(r"cannot read sample 'v00\d\d' of shard '[^']*tiny-00000\d.tar': .*", str(caught.value))
    assert caught.value.__notes__ == [UNREADABLE]


# ------------------------------------------------------------------------------------------ unreadable samples


def test_a_replacement_is_readable_counted_and_the_only_change(samples, some_unreadable):
    bad = set(range(3, len(samples), 7))
    plain, replacing = TrainingClips(samples, CLIP, 3), TrainingClips(some_unreadable, CLIP, 3, replace=True)
    positions = list(range(2 * len(samples)))
    expected, got = plain.__getitems__(positions), replacing.__getitems__(positions)
    hit = [sample in bad for sample in expected.samples]
    assert sum(hit) == len(got.replaced) == 2 * len(bad)
    assert not bad & set(got.samples)
    for position, was_replaced in enumerate(hit):
        same = torch.equal(expected.clips_BTHWC[position], got.clips_BTHWC[position])
        assert same != was_replaced
        assert got.labels[position].item() in samples.labels_of(got.samples[position])
    assert {reason.split("'")[1] for reason in got.replaced} == {samples.key(sample) for sample in bad}


def test_replacements_come_from_the_shards_that_are_at_hand(samples, some_unreadable):
    clips = TrainingClips(some_unreadable, CLIP, 3, shuffle_shards=1, replace=True)
    shards = samples.columns["shard"]
    pixels = np.empty((4, 32, 32, 3), np.uint8)
    for position in range(2 * len(samples)):
        assert shards[clips.read(position, pixels)[0]] == shards[clips.order(position)]


def test_a_shard_without_one_readable_sample_stops_after_a_bounded_number_of_tries(samples):
    columns = {**samples.columns, "video_offset": samples.columns["video_offset"] + 64}
    clips = TrainingClips(dataclasses.replace(samples, columns=columns), CLIP, 0, shuffle_shards=1, replace=True)
    with pytest.raises(SampleError, match=rf"sample 'v00.*; nor can the {ATTEMPTS - 1} that were drawn in its place"):
        clips.__getitems__([0])


def test_a_dataset_goes_to_a_process_that_shares_no_memory(clips):
    sent = pickle.loads(pickle.dumps(clips))
    assert [sent.order(position) for position in range(99)] == [clips.order(position) for position in range(99)]


def test_batches_are_uint8_and_int64(clips):
    batch = clips.__getitems__([5, 6])
    assert (batch.clips_BTHWC.shape, batch.clips_BTHWC.dtype) == ((2, 4, 32, 32, 3), torch.uint8)
    assert (batch.labels.dtype, batch.positions.tolist()) == (torch.int64, [5, 6])


def test_loader_processes_obey_the_training_process_only(clips):
    others = multiprocessing.active_children()
    loader = microbatches(clips, MicrobatchSampler(VirtualWorkers(2, 4), 0, 50), loader_workers=1)
    before = next(loader)
    [worker] = {*multiprocessing.active_children()} - {*others}
    for name in ("TERM", "INT", "TERM"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    later = [next(loader) for _ in range(5)]
    assert len({tuple(batch.positions.tolist()) for batch in [before, *later]}) == 6
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0
