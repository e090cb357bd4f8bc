"""Sections: what is made, how it is stored, trained and run; stage configs are made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

X264Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
]


@dataclass(frozen=True)
class ExecutionConfig:
    backend: Literal["ray", "process"] = "ray"
    """`ray` runs the parts as Ray tasks, `process` runs them on this machine without Ray."""
    num_workers: int | None = None
    """Parts in flight at a time; None takes every core (`process`) or what the cluster offers (`ray`)."""
    address: str = ""
    """Ray cluster to run on: HOST:PORT, `auto` (the one on this machine) or `local` (a private one, ended with the run);
    empty takes the cluster that RAY_ADDRESS names, as in every Ray job, and `local` where there is none."""
    decode_timeout_s: float = 120.0
    """Time that decoding one upload may take in its child process; beyond it the upload is quarantined (`timeout`)."""
    decode_memory_mb: int = 2048
    """Address space of the child process that decodes; an upload that needs more is quarantined (`out_of_memory`)."""
    private_urls: bool = False
    """Also read http(s) URLs that lead to private, loopback or link-local addresses, and hdfs URLs that name a server."""


@dataclass(frozen=True)
class SourceConfig:
    name: str = "source"
    """Name of the source: a seed label set and all posts that matched it."""
    posts: str = ""
    """Posts table (Parquet, JSON lines or CSV; one file, a folder or a glob; local or an fsspec URL)."""
    seed_labels: str = ""
    """Text file, one seed label a line, e.g. "catching a fish"; empty takes the list shipped for `kind`."""
    kind: Literal["kinetics", "noun", "verb", "verb_noun"] = "kinetics"
    """Kind of label space (paper, Section 3.1.1): how hashtags are made from a label."""
    caption_hashtags: bool = True
    """Also take #hashtags written inside the caption text."""
    uri_prefix: str = ""
    """Put before every video_uri that is neither absolute nor a URL; empty takes the folder of the posts file."""


@dataclass(frozen=True)
class SamplingConfig:
    num_videos: int | None = None
    """Videos in the dataset; None keeps all that qualify."""
    minutes: float | None = None
    """Or its length: as many videos as fit (paper, Table 3); needs durations."""
    num_labels: int | None = None
    """Labels in the dataset, drawn at random and nested (paper, Figure 4); None keeps all that qualify."""
    duration: Literal["any", "short", "long", "long_center"] = "any"
    """short: 1–5 s; long: 55–60 s; long_center: the middle 4 s of long; the same videos per label in all three (Table 3)."""
    strategy: Literal["tail_preserving", "random"] = "tail_preserving"
    """Which videos to leave out: of head labels only (paper, Section 4.1.1), or of all alike."""
    min_videos: int = 50
    """Labels with fewer videos are dropped (paper, footnote 2)."""
    square_root: bool = True
    """Draw labels with probability proportional to the square root of their videos (paper, Section 3.1.1)."""
    label_noise: float = 0.0
    """Share of the videos whose labels are replaced by a wrong one, to measure how much of that can be borne."""
    keep_duplicates: bool = False
    """With --base: keep its near-duplicates of targets, to measure what leaving them out changes. Never for results."""
    seed: int = 0
    """Seed of the hash that ranks videos; the same seed nests subsets (500K within 1M within 5M)."""


@dataclass(frozen=True)
class StorageConfig:
    samples_per_shard: int = 1000
    """Videos attempted per tar."""
    short_side_px: int = 128
    """Short side of the stored video, in pixels (even)."""
    max_fps: float = 30.0
    """Stored frame rate: that of the upload, at most this."""
    gop: int = 16
    """Frames between keyframes of the stored video (closed GOP): what makes random clips cheap."""
    crf: int = 20
    """x264 quality of the stored video: 0 (lossless) to 51; smaller is better and larger."""
    preset: X264Preset = "veryfast"
    """x264 preset of the stored video."""
    max_duration_s: float = 120.0
    """Longer uploads are quarantined (`too_long`)."""
    max_pixels: int = 4096 * 2304
    """Larger pictures are quarantined (`too_large`)."""
    frames: Literal["all", "one"] = "all"
    """one: store a single random frame of each upload (an image source; paper, Table 4)."""
    copy_through: bool = False
    """Store uploads that are in the stored form already as they are, byte for byte."""


@dataclass(frozen=True)
class ModelConfig:
    name: str = "r2plus1d_34"
    """Family and depth: r2plus1d_{10,18,34,101,152}, r3d_{10,18,34}, r2d_{10,18,34}; and torchvision_r2plus1d_18,
    which is not the paper's (docs/weights.md)."""
    width: float = 1.0
    """Multiplier of all channel counts; 1 is the paper's."""
    weights: str = ""
    """Start from the trunk of these weights (any file that `tagreel export` reads); empty initialises at random."""
    inflate: Literal["mean", "center"] = "mean"
    """How 2-D kernels among `weights` fill 3-D ones: repeated and divided, or in the middle frame only (paper, Table 4)."""


@dataclass(frozen=True)
class ClipConfig:
    length: int = 8
    """Frames per clip (paper: 8 or 32)."""
    stride: int = 1
    """Frames between clip frames."""
    fps: float | None = None
    """Frame rate at which `stride` counts; None takes the stored rate."""
    size_hw: tuple[int, int] = (128, 171)
    """Height and width that frames are scaled to before cropping, in pixels (paper, Section 3.3)."""
    short_edge: bool = False
    """Scale the shorter side to `size_hw[0]` and keep the aspect instead (the paper's "SE")."""
    crop_px: int = 112
    """Side of the square crop: random in training, central in tests."""


@dataclass(frozen=True)
class RecipeConfig:
    """Pretraining recipe; defaults are the paper's (Section 3.3), choices that are ours are marked."""

    total_clips: int = 490_000_000
    """Length of training in clips seen."""
    virtual_workers: int = 128
    """V: workers of the synchronous SGD. Fixed by the recipe; a process runs V / processes of them in turn."""
    batch_per_gpu: int = 16
    """Clips per virtual worker and step; batch-norm statistics are over these (paper: 16 at 8 frames, 6 at 32)."""
    lr_per_gpu: float = 0.0015
    """Rate of one virtual worker; the rate after warm-up is V times this (linear scaling)."""
    warmup_clips: int = 5_000_000
    """Clips of linear warm-up from `lr_per_gpu` to V times it (length: our choice)."""
    num_decays: int = 13
    """Rate reductions, at equal steps."""
    decay_factor: float = 0.5
    """Factor of each reduction."""
    momentum: float = 0.9
    """Nesterov momentum."""
    weight_decay: float = 1e-4
    """On convolutions, final layer and batch-norm scales, not on biases (our choice)."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """bf16 runs the forward pass under autocast; tf32 is fp32 with inputs of a GPU's convolutions rounded to 10 bits."""
    seed: int = 0
    """Seed of the weights, of the sample order and of the augmentation."""
    shuffle_shards: int = 0
    """Shards that are shuffled together, so that a store is read shard by shard (hundreds); 0 shuffles the whole dataset."""
