"""What a sweep compares, and where it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.sections import ExecutionConfig
from pipeline.config.stages import BuildConfig, DedupConfig, PretrainConfig, TransferConfig


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
    short_side_px: tuple[int, int] = (96, 144)
    """Short side of a video, in pixels: lowest and highest."""
    zipf_exponent: float = 0.5
    """The label of rank r is drawn with probability proportional to r ** -zipf_exponent."""
    wrong_label_rate: float = 0.2
    """Share of labelled posts whose label is not what the video shows."""
    word_tag_rate: float = 0.0
    """Share of labelled posts that also name verb and noun by tags of their own: what sources of verbs and of nouns find."""
    duplicate_rate: float = 0.01
    """Share of videos that contain a video of the target."""
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
class JointTargetConfig:
    """A target made of two: pairs of their labels, from a model of each (paper, A.4: actions of a verb and a noun)."""

    name: str = ""
    """Its name among the sweep's targets; nothing of this name is built."""
    verb: str = ""
    """Target of the first label of a pair."""
    noun: str = ""
    """Target of the second, of the same videos."""


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
    label_noise: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8)
    """label_noise: share of the videos with a label replaced by a wrong one, of each arm."""
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
    """Targets (made by `tagreel target`, or of two by `joint`) to transfer to."""
    joint: tuple[JointTargetConfig, ...] = ()
    """Targets that are made of two others."""
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
