"""A dataset in words, for croissant.json: where it comes from, how it was drawn and stored, what is missing, what to beware of.

Made from the config and from what dataset.json is about to say: no word of the machine, none that differs from run to run.
"""

from __future__ import annotations

from typing import Any

from pipeline.config import BuildConfig, CompactConfig, StorageConfig, TargetConfig

WriterConfig = BuildConfig | TargetConfig | CompactConfig

_WEAK = (
    "Weak labels: nobody has looked at the videos. A video has the labels whose hashtags occur in the posts that show it; "
    "hashtags.parquet of the source lists which hashtags are which label's."
)
_ANNOTATED = "The labels are those of the benchmark's annotation files; label_space.json counts them."
_LIMITS = (
    "Hashtags may be wrong, and what a video shows may go unmentioned. Videos that overlap a benchmark are excluded only "
    "where a search for near-duplicates was run: exclusions.parquet, written later, lists those of this dataset, and "
    "subsets and compacted copies leave them out. Which posts there are is up to those who post."
)
_LIMITS_OF_TARGET = "Videos that cannot be read any more are missing; a result says how many were tested."
_PERSONAL = (
    "People may be recognisable. Sound is not kept, and keys are hashes; the column uri of the manifest names where each "
    "video was uploaded."
)


def summary(config: WriterConfig, described: dict[str, Any]) -> str:
    """Two sentences: how much of what, and from where."""
    return (
        f"{described['num_videos']:,} videos ({described['minutes']:,.1f} minutes) of {len(described['labels']):,} "
        f"labels, {_origin(config)}. Tars of KEY.mp4 and KEY.json, as WebDataset and tar read them."
    )


def _origin(config: WriterConfig) -> str:
    match config:
        case BuildConfig(base=str(base)):
            return f"drawn from the dataset '{base}', whose shards it reads ({_sampling(config)})"
        case BuildConfig():
            return (
                f"found by the hashtags of posts: source '{config.source.name}', seed labels of the kind "
                f"{config.source.kind} ({_sampling(config)})"
            )
        case TargetConfig():
            return f"taken from one split of the benchmark '{config.target}', with the labels of its annotations"
        case CompactConfig():
            return f"copied from the dataset '{config.dataset}' without the videos that its dedup excluded"


def _sampling(config: BuildConfig) -> str:
    """Such of the sampling's settings as decide which videos are in."""
    sampling = config.sampling
    limits = {"videos": sampling.num_videos, "minutes": sampling.minutes, "labels": sampling.num_labels}
    asked = [f"{number:,} {what} asked for" for what, number in limits.items() if number is not None]
    drawn = [f"{sampling.strategy.replace('_', '-')} sampling with seed {sampling.seed}"] if asked else []
    durations = [f"durations {sampling.duration}"] if sampling.duration != "any" else []
    return ", ".join([*asked, *drawn, *durations, f"at least {sampling.min_videos:,} videos a label"])


def notes(config: WriterConfig, counts: dict[str, Any], described: dict[str, Any]) -> dict[str, str]:
    """How the data came about, what is missing and what to beware of, by name in Croissant's vocabulary `rai:`."""
    is_target = isinstance(config, TargetConfig)
    stages = " ".join(_counted(*item) for item in counts.items())
    return {
        "rai:dataCollection": f"Videos {_origin(config)}. {stages}",
        "rai:dataCollectionMissingData": _missing(described["quarantined"]),
        "rai:dataPreprocessingProtocol": _stored_form(config),
        "rai:dataAnnotationProtocol": _ANNOTATED if is_target else _WEAK,
        "rai:dataLimitations": _LIMITS_OF_TARGET if is_target else _LIMITS,
        "rai:personalSensitiveInformation": _PERSONAL,
    }


def _counted(stage: str, count: dict[str, Any]) -> str:
    """One stage as a sentence: in = kept + dropped by reason."""
    dropped = "".join(f" + {number:,} {reason}" for reason, number in sorted(count["dropped"].items()) if number)
    return f"{stage.replace('_', ' ').capitalize()}: {count['in']:,} = {count['kept']:,} kept{dropped}."


def _missing(quarantined: dict[str, int]) -> str:
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(quarantined.items()))
    return f"Not stored, by reason: {reasons or 'none'}."


def _stored_form(config: WriterConfig) -> str:
    if isinstance(config, CompactConfig) or (isinstance(config, BuildConfig) and config.base is not None):
        return "Stored videos are taken as they are, byte for byte."
    return _encoded(config.storage)


def _encoded(form: StorageConfig) -> str:
    frames = (
        "one random frame of each upload" if form.frames == "one" else "all frames of the upload, or of its segment"
    )
    copied = "; uploads of this form are kept byte for byte" if form.copy_through else ""
    return (
        f"H.264 in MP4 without sound, {frames}: short side {form.short_side_px} px, at most {form.max_fps:g} frames per "
        f"second, a keyframe every {form.gop} frames, x264 {form.preset} at crf {form.crf}{copied}."
    )
