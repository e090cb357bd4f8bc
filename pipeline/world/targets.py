"""The target set: labelled training and test videos with objects and backgrounds that the source never shows."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.world.config import WorldConfig
from pipeline.world.encode import encode_mp4
from pipeline.world.randomness import Purpose
from pipeline.world.render import VideoPlan, plan_video, render_frames
from pipeline.world.vocabulary import VERBS, label_name

TASKS = ("verb", "noun", "verb_noun")
"""The same videos under three labelings: "rolling", "ring", "rolling ring"."""


@dataclass(frozen=True)
class Target:
    """One video of the target set."""

    index: int
    split: str
    """`train` or `test`."""
    verb: str
    noun: str
    plan: VideoPlan

    @property
    def file_name(self) -> str:
        return f"{self.index:06d}.mp4"

    def label(self, task: str) -> str:
        """The label under one of `TASKS`."""
        if task == "verb_noun":
            return label_name(self.verb, self.noun)
        return {"verb": VERBS[self.verb], "noun": self.noun}[task]


def describe_target(config: WorldConfig, index: int) -> Target:
    """The target video at `index`: verbs take turns, the nouns of one verb take turns, training videos come first."""
    if not 0 <= index < config.num_targets:
        raise IndexError(f"target {index}: the target set has {config.num_targets} videos")
    turn, verb_id = divmod(index, config.num_target_verbs)
    verb, noun = config.target_verbs[verb_id], config.target_nouns[(turn + verb_id) % config.num_target_nouns]
    # A benchmark is trimmed: no long videos.
    plan = plan_video(config, Purpose.TARGET_VIDEO, index, verb, noun, duration_s=config.duration_s)
    return Target(index, "train" if turn < config.train_videos_per_class else "test", verb, noun, plan)


def render_target(config: WorldConfig, index: int) -> bytes:
    """The MP4 of one target video."""
    plan = describe_target(config, index).plan
    return encode_mp4(render_frames(config, plan), plan.fps, plan.crf)
