"""One config per stage. `root`, `execution` and `force` only say where and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.sections import (
    ClipConfig,
    ExecutionConfig,
    ModelConfig,
    RecipeConfig,
    SamplingConfig,
    SourceConfig,
    StorageConfig,
)


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
class JointConfig:
    """Results of a verb model and of a noun model on the same segments → accuracy on actions, the pairs of both."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    verb: str = ""
    """Folder of the verb model's result, which holds result.json and predictions.parquet."""
    noun: str = ""
    """Folder of the noun model's result."""
    target: str = ""
    """Target whose labels are actions ("VERB NOUN"): what competes with `candidates = "target"`."""
    candidates: Literal["pairs", "target"] = "pairs"
    """pairs: every verb with every noun; target: the actions of `target` alone, an action that it lacks counts as wrong."""
    to: str = ""
    """JSON file to write; empty only prints."""


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
