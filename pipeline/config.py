"""The one frozen dataclass tree: sections, the stage configs made of them, load, dump, digest.

A stage is a function of one stage config. Sections say *what* is made; `root`, `execution` and `force` only say where and how,
so they stay outside the digest (`NOT_IN_DIGEST`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
import typing
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

NOT_IN_DIGEST = frozenset(
    {
        "root",
        "data_root",
        "execution",
        "force",
        "retry_failed",
        "num_processes",
        "loader_workers",
        "cache_mb",
        "keep_last",
        "keep_every",
        "checkpoint_clips",
        "checkpoint_minutes",
        "on_unreadable",
        "max_replaced",
        "verify_share",
        "shard_cache",
        "shard_cache_gb",
        "compile",
        "pad_channels",
        "tensorboard",
        "peer_timeout_s",
    }
)


X264Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
]


class ConfigError(ValueError):
    """What the user asked for cannot be done as written; the message names the field and the remedy."""


# --------------------------------------------------------------------------------------------------- sections


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


# ---------------------------------------------------------------------------------------------- stage configs


@dataclass(frozen=True)
class BuildConfig:
    """posts → hashtags → matches → label space → manifest → shards + signatures."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    dataset: str = "source"
    """Name of the dataset to write."""
    base: str | None = None
    """Draw the dataset from this finished dataset instead of from posts: no video is read again, no tar copied; options of
    `source` and `storage` are then without effect."""
    source: SourceConfig = field(default_factory=SourceConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    retry_failed: bool = False
    """Try the quarantined videos of a finished dataset again."""
    force: bool = False
    """Discard what is at the same path and start over."""


@dataclass(frozen=True)
class TargetConfig:
    """annotation files → a target: the same artefacts as a dataset, train and test apart."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    target: str = "target"
    """Name of the target."""
    train: str = ""
    """Annotations of the training split: a file, or for HMDB51 the folder of the split lists."""
    test: str = ""
    """Annotations of the test split; empty where those of --train say which of their rows are for testing."""
    format: Literal["auto", "csv", "kinetics", "epic", "something", "ucf101", "hmdb51", "moments"] = "auto"
    """Format of the annotations (docs/targets.md); auto tells from the content. csv is a table with path,label."""
    videos: str = ""
    """Folder of the videos, or a template of their paths, such as VIDEOS/{label}/{id}.mp4 (docs/targets.md: names in
    braces); may be left out for csv, whose paths then count from the folder of the table."""
    cut: Literal["auto", "always", "never"] = "auto"
    """Cut segments by their start and end; auto does unless the name of a video's file holds these, or the segment's id."""
    classes: tuple[str, ...] = ()
    """Lists of the labels that count (one a line, or JSON); for EPIC the *_classes.csv that give verbs and nouns names."""
    label_field: Literal["action", "verb", "noun", "all_nouns"] = "action"
    """EPIC: what the label is; an action is a pair of verb and noun, all_nouns is multi-label."""
    test_participants: tuple[str, ...] = ()
    """EPIC: participants of --train whose segments are the test split instead (the paper's validation: P26 to P31)."""
    test_split: str = ""
    """Which split to test on, where a table has both validation and test rows: val or test."""
    fold: int = 1
    """HMDB51: which of the three splits."""
    frame_rate: float | None = None
    """EPIC: what frame numbers count at, in tables without times."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    retry_failed: bool = False
    """Try the quarantined videos of a finished target again."""
    force: bool = False
    """Discard what is at the same path and start over."""


@dataclass(frozen=True)
class DedupConfig:
    """signatures of a dataset × signatures of targets → exclusions."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    dataset: str = "source"
    """Dataset to clean."""
    targets: tuple[str, ...] = ()
    """Targets whose videos must not occur in it; every split is compared."""
    mode: Literal["paper", "default", "paranoid"] = "default"
    """paper: Hamming radius 3; default: radius 7 and the 256-bit check; paranoid: radius 7 alone."""
    min_overlap: float = 0.1
    """Exclude from this share of matched valid frames on."""
    min_frames: int = 8
    """... and from this many matched frames on (or all valid ones, if fewer)."""
    undecidable: Literal["keep", "drop"] = "keep"
    """What to do with videos that have no informative frame (black, uniform)."""
    within: Literal["off", "list", "drop"] = "off"
    """The same video posted twice: list compares the dataset with itself, drop also keeps only the longest of equals."""
    within_overlap: float = 0.8
    """Two videos are the same from this share of matched valid frames in both on."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    force: bool = False
    """Discard what is at the same path and start over."""


@dataclass(frozen=True)
class CompactConfig:
    """dataset + exclusions → a dataset with shards of its own that hold only what is kept."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    dataset: str = "source"
    """Dataset to copy from; its dedup must be finished."""
    to: str = ""
    """Name of the dataset to write."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    force: bool = False
    """Discard what is at the same path and start over."""


@dataclass(frozen=True)
class PretrainConfig:
    """shards → checkpoint."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    run: str = "run"
    """Name of the run to write."""
    dataset: str = "source"
    """Dataset to train on."""
    model: ModelConfig = field(default_factory=ModelConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    exact: bool = False
    """Sum gradients in one fixed tree: the same weights bit for bit on any number of processes (docs/exact.md)."""
    on_unreadable: Literal["stop", "replace"] = "stop"
    """A sample that cannot be read any more ends the run, or another one of its block takes its place, counted."""
    max_replaced: float = 0.01
    """With `replace`: share of the clips seen beyond which the run ends all the same."""
    checkpoint_clips: int = 1_000_000
    """Clips between checkpoints."""
    checkpoint_minutes: float = 5.0
    """... or this long after the last one, whichever comes first; 0 counts clips only."""
    keep_last: int = 2
    """Checkpoints kept (at least 2)."""
    keep_every: int = 0
    """Also keep, for good, the first checkpoint of every so many clips; 0 keeps none."""
    loader_workers: int = 0
    """Loader processes per training process; 0 decodes in the training process."""
    cache_mb: int = 0
    """Memory per loader process for decoded small videos; 0 decodes each clip anew."""
    data_root: str = ""
    """Root that holds the dataset, a folder or a URL (s3://bucket/folder); empty takes `root`, which must be local."""
    verify_share: float = 1.0
    """Share of the samples read whose bytes are checked against the checksums of the shards' indices."""
    shard_cache: str = ""
    """Local folder for copies of remote shards, each fetched whole, one folder a machine; empty reads remote samples one by
    one. With it, `recipe.shuffle_shards` should be as many shards as fit into it, or fewer."""
    shard_cache_gb: float = 100.0
    """Size of that folder (1 GB = 10⁹ bytes); the shards used longest ago go first."""
    compile: bool = False
    """Run training's forward and backward passes through torch.compile: for GPUs; compiling takes minutes at each start."""
    pad_channels: bool = False
    """Pad channel counts to multiples of 8 with zeros that stay zero (for tensor cores); checkpoints have the usual shapes."""
    tensorboard: bool = True
    """Also write the metrics for TensorBoard."""
    num_processes: int = 1
    """Training processes on this machine, when started by `tagreel pretrain`."""
    peer_timeout_s: float = 120.0
    """A process that does not answer the others for so long is taken for lost: the longest that one may lag behind."""
    force: bool = False
    """Discard what is at the same path and start over."""


@dataclass(frozen=True)
class TransferConfig:
    """checkpoint × target × protocol → result.json."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    run: str = "run"
    """Run whose checkpoint is evaluated; a run name that starts with `scratch` trains from random weights."""
    target: str = "target"
    """Target to transfer to."""
    run_from: str = ""
    """Weights file (any format that `tagreel export` reads) to transfer from instead of a run; `run` then only names the
    results' folder, and left at its default takes the file's name."""
    protocol: Literal["full_ft", "fc_only", "few_shot", "evaluate"] = "fc_only"
    """full_ft trains everything; fc_only fits a logistic regression on features; few_shot does so with k videos a label;
    evaluate trains nothing and tests the final layer that the weights bring (a target with a test split alone will do)."""
    result: str = ""
    """Name for this result beside others of the same run, target and protocol with other settings."""
    inflate: Literal["", "mean", "center"] = ""
    """Inflate the run's 2-D network into this transfer's 3-D `model`: kernels repeated and divided, or in the middle frame
    only (paper, Table 4); empty: the run's network as it is."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Used from scratch and for inflation; a pretrained run or file brings its own."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Used from scratch, for inflation, for weights files that do not say how clips were made, and with `clip_from`."""
    clip_from: Literal["weights", "config"] = "weights"
    """weights: clips as the weights were trained on, where they say it; config: `clip`, whatever they say."""
    num_clips: int = 10
    """Clips averaged per test video (paper, Section 4)."""
    num_crops: Literal[1, 3] = 1
    """Crops of each test clip: the centre; or both ends and the middle of the longer side, of frames whose shorter side is
    scaled to the crop's."""
    test_crop_px: int | None = None
    """Side of the test crop; None takes clip.crop_px, 0 the whole frame. Beyond 112 the network runs fully convolutionally."""
    clip_choice: Literal["uniform", "salient"] = "uniform"
    """Which test clips: spread evenly, or the most salient of `salient_of` by a light scorer trained on the target."""
    salient_of: int = 40
    """Clips that the scorer of `clip_choice = "salient"` chooses from."""
    shots: tuple[int, ...] = (1, 5, 10)
    """few_shot: training videos per label; of a label that has fewer, all."""
    draws: int = 5
    """few_shot: random draws of those videos; the result is their mean with a 95 % interval."""
    repeats: int = 1
    """full_ft: final trainings, with seeds `seed`, `seed` + 1, …; the result lists each, their mean and interval."""
    learning_rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    """full_ft: rates of the whole batch, searched on held-out training videos."""
    l2: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    """fc_only and few_shot: L2 penalties on the weights of standardised features, searched on held-out training videos (of
    few shots: by cross-validation)."""
    held_out: float = 0.1
    """Share of the training videos held out for the search (paper, Section 4); the test split is never used."""
    passes: int = 58
    """full_ft: passes over the training split (paper, Table 8)."""
    warmup_passes: int = 16
    """full_ft: passes of linear warm-up."""
    decay_passes: tuple[int, ...] = (16, 16)
    """full_ft: passes between rate reductions, counted from the end of warm-up (paper, Table 8)."""
    decay_factor: float = 0.1
    """full_ft: factor of each reduction."""
    batch: int = 32
    """full_ft: clips per step over all processes (paper: 64 GPUs × 16 clips, for a target of 246K videos)."""
    batch_per_gpu: int = 16
    """full_ft: clips per virtual worker, as in pretraining; divides `batch` (paper: 16 at 8 frames, 6 at 32)."""
    weight_decay: float = 1e-4
    """full_ft: as in pretraining."""
    checkpoint_minutes: float = 5.0
    """full_ft: time between checkpoints of the training at hand; 0 writes them only when told to stop."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Of training and test, as in pretraining: bf16 runs the forward pass under autocast; tf32 is fp32 with inputs of a GPU's
    convolutions rounded to 10 bits."""
    seed: int = 0
    """Seed of the final layer, of the held-out videos and of the sample order."""
    loader_workers: int = 0
    """Loader processes per training process; 0 decodes in threads of the training process."""
    num_processes: int = 1
    """Processes on this machine, when started by `tagreel transfer`."""
    cache_mb: int = 0
    """Memory per process for decoded small videos."""
    force: bool = False
    """Discard what is at the same path and start over."""


@dataclass(frozen=True)
class LabelReportConfig:
    """Finished datasets (and targets) → a report on their label spaces."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    datasets: tuple[str, ...] = ()
    """Datasets to compare."""
    targets: tuple[str, ...] = ()
    """Targets whose labels are looked up in each dataset's label space."""
    name: str = ""
    """Name of the report; empty joins the names of the datasets with "+"."""


# -------------------------------------------------------------------------------------------------- sweeps


@dataclass(frozen=True)
class PlatformConfig:
    """A simulated platform in `{root}/world`: posts, videos, seed labels of every kind, and the tables of its targets."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    num_posts: int = 0
    """Posts on the platform; 0: there is none, and a sweep reads your posts and targets."""
    train_videos_per_class: int = 5
    """Training videos of each of the target's 12 verbs."""
    test_videos_per_class: int = 40
    """Test videos of each of the target's 12 verbs."""
    long_rate: float = 0.015
    """Share of long videos."""
    long_duration_s: tuple[float, float] = (6.0, 60.0)
    """Shortest and longest long video, in seconds, log-uniform."""
    seed: int = 0
    """Another seed is another platform."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)


@dataclass(frozen=True)
class SweepSourceConfig:
    """One of several sources that a sweep compares; what is empty is that of the sweep's `build`."""

    name: str = ""
    """Name of the source and of the dataset built from it."""
    kind: Literal["kinetics", "noun", "verb", "verb_noun"] = "kinetics"
    """Kind of label space."""
    posts: str = ""
    """Posts table; empty takes `build.source.posts`."""
    seed_labels: str = ""
    """Seed labels; empty takes the list shipped for `kind`."""
    frames: Literal["all", "one"] = "all"
    """one: an image source; posts may point at images, and of a video one frame is stored."""
    sizes: tuple[int, ...] = ()
    """Pretraining videos of each arm from this source; empty takes the sweep's."""
    num_labels: tuple[int, ...] = ()
    """Labels of each arm (paper, Figure 4)."""


@dataclass(frozen=True)
class BaselineConfig:
    """Another pretraining to compare with: the same recipe on a finished dataset, or weights from a file."""

    name: str = ""
    """Its name in tables and figures, such as kinetics or sports-1m."""
    dataset: str = ""
    """Finished dataset to pretrain on, all of it."""
    weights: str = ""
    """Weights file (any format that `tagreel export` reads) to transfer from instead."""
    targets: tuple[str, ...] = ()
    """Targets where it stands in place of training from scratch; empty: on every target, beside it."""


@dataclass(frozen=True)
class TransferSettings:
    """Fine-tuning settings of some of a sweep's points (paper, Tables 8 to 17), in place of those of `transfer`."""

    target: str = ""
    """Of the points on this target; empty: on every target."""
    arm: str = ""
    """Of the points of this arm, such as images; empty: of every arm."""
    model: str = ""
    """Of the points with this network; empty: with every one."""
    learning_rates: tuple[float, ...] | None = None
    """Rates of the whole batch; None keeps those of `transfer`, here and below."""
    passes: int | None = None
    """Passes over the training split."""
    warmup_passes: int | None = None
    """Passes of linear warm-up."""
    decay_passes: tuple[int, ...] | None = None
    """Passes between rate reductions, counted from the end of warm-up."""


@dataclass(frozen=True)
class ClusterConfig:
    """Where `backend = "slurm"` and `"ray"` run a sweep's stages; what the scripts written ask for."""

    hosts: int = 1
    """Slurm: hosts of each pretraining run, with `pretrain.num_processes` GPUs each."""
    cores: int = 16
    """Cores of a stage without training, and beside each GPU where `cores_per_gpu` is 0."""
    cores_per_gpu: int = 8
    """Cores beside each GPU, which decode."""
    hours: int = 24
    """Slurm: time limit of a job; a pretraining run that is not done by then saves and is queued again."""
    setup: str = ""
    """A line of shell before each stage, such as `source .venv/bin/activate`."""
    options: tuple[str, ...] = ()
    """Slurm: further options of every job, such as --partition=gpu."""
    address: str = "http://127.0.0.1:8265"
    """Ray: address of the cluster's dashboard, which takes jobs."""


@dataclass(frozen=True)
class SweepConfig:
    """A figure or table of the paper: what it compares, at which size; `tagreel sweep --list` names them."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    name: str = ""
    """Name of the sweep: the folder of its plan, results and report; empty takes `kind`."""
    kind: str = "data_size"
    """What is compared: a function of pipeline/sweeps."""
    sizes: tuple[int, ...] = (500_000, 1_000_000, 5_000_000, 10_000_000, 19_000_000, 65_000_000)
    """Pretraining videos of each arm (paper, Figure 1)."""
    strategies: tuple[Literal["tail_preserving", "random"], ...] = ()
    """How subsets are drawn (paper, Figure 1c); empty takes `build.sampling.strategy`."""
    minutes: float | None = None
    """durations: the budget of time of each arm; None takes the paper's, a tenth as many long videos."""
    models: tuple[str, ...] = ()
    """Networks to compare (paper, Tables 2 and 5 to 7), the last one the largest; empty takes `pretrain.model`."""
    inflations: tuple[Literal["mean", "center"], ...] = ("mean",)
    """frames: how 2-D networks are inflated for transfer."""
    views: tuple[Literal["plain", "short_edge", "salient"], ...] = ("plain", "short_edge", "salient")
    """Tables 5 to 7: videos scaled to a fixed size, or by their shorter side, or that and tested on salient clips."""
    protocols: tuple[Literal["full_ft", "fc_only"], ...] = ("full_ft", "fc_only")
    """Transfer protocols of each arm."""
    seeds: tuple[int, ...] = (0,)
    """Each point is run once per seed (subset, labels, weights, order, held-out videos)."""
    targets: tuple[str, ...] = ()
    """Targets (made by `tagreel target`) to transfer to."""
    keep_out: tuple[str, ...] = ()
    """Targets whose videos must not occur in any source; empty takes `targets`."""
    sources: tuple[SweepSourceConfig, ...] = ()
    """Sources to compare; empty takes `build` alone, or for a sweep over label kinds all four kinds."""
    baselines: tuple[BaselineConfig, ...] = ()
    """Other pretrainings to compare with."""
    settings: tuple[TransferSettings, ...] = ()
    """Fine-tuning by target and arm; later ones win."""
    platform: PlatformConfig = field(default_factory=PlatformConfig)
    """A simulated platform to draw posts and targets from, instead of yours."""
    build: BuildConfig = field(default_factory=BuildConfig)
    """The dataset that arms are drawn from; its sampling also draws the arms."""
    dedup: DedupConfig = field(default_factory=DedupConfig)
    """How near-duplicates of the targets are found."""
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    """Model, clips and recipe of every arm."""
    transfer: TransferConfig = field(default_factory=TransferConfig)
    """Settings of every transfer; `model` and `clip` are those of `pretrain`."""
    backend: Literal["local", "slurm", "ray"] = "local"
    """local runs the stages here, one after the other; slurm and ray write scripts that run them on a cluster."""
    to: str = ""
    """Folder for these scripts; empty takes the sweep's own."""
    retries: int = 1
    """Further attempts at a stage that failed; bad input is not tried again."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)


# ------------------------------------------------------------------------------------- load, dump, digest, diff

T = typing.TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON types, field order kept; tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """Build `kind` from plain values, strictly: an unknown key or a wrong type raises ConfigError naming its path."""
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown key '{where}{key}'; {kind.__name__} has: {', '.join(sorted(known))}")
    return kind(**{key: _coerce(hints[key], value, f"{where}{key}") for key, value in values.items()})


def _coerce(hint: Any, value: Any, where: str) -> Any:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, f"{where}.")
    if origin is tuple:
        item = options[0]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"'{where}' must be a list, not {value!r}")
        if Ellipsis not in options and len(value) != len(options):
            raise ConfigError(f"'{where}' must have {len(options)} values, not {value!r}")
        return tuple(_coerce(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is Literal:
        if value not in options:
            raise ConfigError(f"'{where}' must be one of {', '.join(map(repr, options))}, not {value!r}")
        return value
    if type(None) in options:
        return None if value is None else _coerce(next(o for o in options if o is not type(None)), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"'{where}' must be {hint.__name__}, not {value!r}")
    return value


def load(kind: type[T], path: str | Path, base: T | None = None) -> T:
    """Read a stage config from a .json or .toml file; keys that are left out keep the values of `base`, or their defaults."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"config file '{path}' does not exist")
    try:
        values = tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"config file '{path}' is not valid {path.suffix[1:] or 'JSON'}: {error}") from error
    return from_dict(kind, values if base is None else _merged(to_dict(base), values))


def _merged(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`base` with `values` over it, sections field by field."""
    nested = {
        k: _merged(base[k], v) for k, v in values.items() if isinstance(v, dict) and isinstance(base.get(k), dict)
    }
    return {**base, **values, **nested}


def determining(config: Any, unused: Collection[str] = ()) -> dict[str, Any]:
    """The part of a config that decides what is in the artefact, as plain values: everything but `NOT_IN_DIGEST` and
    the fields of the config itself that are `unused`, given the others."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in NOT_IN_DIGEST}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return strip({name: value for name, value in to_dict(config).items() if name not in unused})


def digest(values: Any) -> str:
    """SHA-256 (first 16 hex digits) of plain JSON values or of a config's determining part."""
    if dataclasses.is_dataclass(values):
        values = determining(values)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def differences(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    """The fields in which two plain configs differ, as `path: old → new`."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{where}{key}.")
        elif a != b:
            found.append(f"{where}{key}: {a!r} → {b!r}")
    return found
