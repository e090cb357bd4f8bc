"""Frames of stored videos as a clip config wants them, checked against the index's checksums."""

from __future__ import annotations

import numpy as np

from pipeline import storage, video
from pipeline.config import ClipConfig, ConfigError, PretrainConfig
from pipeline.shard_cache import ShardCache
from pipeline.video import Window
from pretrain import clips, draws
from pretrain.samples import SampleError, Samples


class FrameReader:
    """Frames of stored videos at a clip config's size; may keep whole decoded videos in memory.

    The memory is filled once and not replaced: videos come in random order, all equally often, so no other choice of
    what to keep hits more often.

    Args:
        cache_mb: that memory.
        verify_share: of the reads, those whose bytes are checked; which ones is a function of their positions.
        shard_cache: keeps copies of remote shards; None reads each sample by range.
    """

    def __init__(
        self,
        samples: Samples,
        clip: ClipConfig,
        cache_mb: int = 0,
        verify_share: float = 1.0,
        shard_cache: ShardCache | None = None,
    ) -> None:
        self.samples, self.clip = samples, clip
        self.verify_share, self.shard_cache = verify_share, shard_cache
        self.cache: dict[int, np.ndarray] = {}
        self.cache_room = cache_mb << 20

    def read(
        self,
        sample: int,
        frames: list[int],
        window: Window | None = None,
        out: np.ndarray | None = None,
        position: int | None = None,
    ) -> np.ndarray:
        """The frame numbers asked for, or a window of each; SampleError names a sample that cannot be read.

        Args:
            window: part of frames of `frame_size`; None keeps all.
            out: uint8 [T, H, W, 3] to write to.
            position: in the order of training; decides whether the bytes are checked (None: they are).

        Returns: uint8 [T, H, W, 3].
        """
        try:
            if (whole := self._whole(sample, position)) is None:
                data, first = self._bytes(sample, position), self.samples.columns["first_frame"].item(sample)
                numbers = [first + frame for frame in frames]
                return video.read_clip(data, numbers, self.frame_size(sample), window, out)
        except (video.VideoError, OSError) as error:
            raise SampleError(f"cannot read {self.samples.describe(sample)}: {error}") from error
        top, left, height, width = window or (0, 0, *whole.shape[1:3])
        found = whole[frames, top : top + height, left : left + width]
        if out is None:
            return found
        out[...] = found
        return out

    def frame_size(self, sample: int) -> tuple[int, int]:
        """Height and width that the frames of a video are scaled to."""
        if not self.clip.short_edge:
            return self.clip.size_hw
        at = self.samples.columns
        return video.short_side_size(at["height"].item(sample), at["width"].item(sample), self.clip.size_hw[0])

    def frame_step(self, sample: int) -> float:
        """Stored frames between two frames of a clip."""
        return clips.frame_step(self.clip.stride, self.clip.fps, self.samples.columns["fps"].item(sample))

    def _bytes(self, sample: int, position: int | None) -> bytes:
        verify = position is None or draws.uniform_at(0, "verify", position) < self.verify_share
        return self.samples.read(sample, verify=verify, cache=self.shard_cache)

    def _whole(self, sample: int, position: int | None) -> np.ndarray | None:
        """All frames of a video that is kept, or can be; uint8 [F, H, W, 3]."""
        if not self.cache_room and not self.cache:
            return None
        if sample in self.cache:
            return self.cache[sample]
        at, size_hw = self.samples.columns, self.frame_size(sample)
        first, num_frames, in_file = (at[name].item(sample) for name in ("first_frame", "num_frames", "stored_frames"))
        if num_frames * size_hw[0] * size_hw[1] * 3 > self.cache_room:
            return None
        whole = video.read_video(self._bytes(sample, position), size_hw)
        if len(whole) != in_file:
            raise video.VideoError("decode_error", f"{len(whole)} frames, the index says {in_file}")
        whole = whole[first : first + num_frames].copy() if num_frames < in_file else whole
        self.cache[sample] = whole
        self.cache_room -= whole.nbytes
        return whole


def open_reader(samples: Samples, config: PretrainConfig) -> FrameReader:
    """The reader that a pretraining config asks for; ConfigError for what it cannot be."""
    if not 0 <= config.verify_share <= 1:
        raise ConfigError(f"verify_share = {config.verify_share} is no share: it must be between 0 and 1")
    if not storage.is_local(config.shard_cache) or (config.shard_cache and config.shard_cache_gb <= 0):
        raise ConfigError(
            f"shard_cache = '{config.shard_cache}' with shard_cache_gb = {config.shard_cache_gb} can hold no copies: name "
            "a local folder and more than 0 GB"
        )
    capacity = int(config.shard_cache_gb * 1e9)
    cache = ShardCache(config.shard_cache, capacity) if config.shard_cache else None
    return FrameReader(samples, config.clip, config.cache_mb, config.verify_share, cache)
