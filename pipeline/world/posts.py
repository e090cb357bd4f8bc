"""Posts: which video each shows, what that video is, and what people wrote. Pure functions of (config, index)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.world.config import WorldConfig
from pipeline.world.duplicates import Duplicate, duplicate_frames, plan_duplicate
from pipeline.world.encode import BREAKS, black_frames, broken, encode_mp4
from pipeline.world.randomness import Purpose, generator
from pipeline.world.render import VideoPlan, plan_video, render_frames
from pipeline.world.targets import describe_target
from pipeline.world.vocabulary import CAPTIONS, UNRELATED_TAGS, VERBS, hashtag, label_forms, label_name, near_miss_forms

KINDS = ("action", "untagged", "duplicate", "black", "broken")
"""What a video is. `untagged` is an action too, under a post that names no label."""
MAX_HASHTAGS = 10

Label = tuple[str, str]
"""(verb lemma, noun)"""


@dataclass(frozen=True)
class Video:
    """The truth about one video of the platform."""

    index: int
    kind: str
    topic: Label
    """The source label that honest tags name."""
    verb: str | None
    noun: str | None
    """What the video shows; None if black or broken."""
    height: int
    width: int
    fps: float
    num_frames: int
    start_s: float
    end_s: float
    """Span of the action; of the copy, in a duplicate."""
    plan: VideoPlan
    duplicate: Duplicate | None = None
    defect: str | None = None
    """How a broken file is broken: one of `encode.BREAKS`."""

    @property
    def file_name(self) -> str:
        return f"{self.index:06d}.mp4"

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.fps


@dataclass(frozen=True)
class Post:
    index: int
    video: Video
    """Made for this post, or for an earlier one (`is_repost`)."""
    shown_labels: tuple[Label, ...]
    """Labels that the tags name; the truth about the post, not a column of it."""
    hashtags: tuple[str, ...]
    caption: str

    @property
    def post_id(self) -> str:
        return f"post{self.index:08d}"

    @property
    def is_repost(self) -> bool:
        return self.video.index != self.index

    @property
    def tags_correct(self) -> bool | None:
        """Some tag names what the video shows; None where no tag names a label."""
        return (self.video.verb, self.video.noun) in self.shown_labels if self.shown_labels else None


@lru_cache(maxsize=8)
def label_probabilities(config: WorldConfig) -> dict[Label, float]:
    """Zipf: source label → share of the posts. Which label has which rank is drawn from the seed."""
    labels = config.source_labels
    order = generator(config.seed, Purpose.LABEL_RANKS).permutation(len(labels))
    weights = np.arange(1, len(labels) + 1) ** -float(config.zipf_exponent)
    return {labels[i]: float(weight) for i, weight in zip(order, weights / weights.sum(), strict=True)}


def _draw_label(
    config: WorldConfig, rng: np.random.Generator, verb: str | None = None, other_than: Label | None = None
) -> Label:
    """A label in proportion to its share, of one verb only or other than one label, if asked."""
    shares = label_probabilities(config)
    labels = [label for label in shares if label != other_than and verb in (None, label[0])]
    cumulative = np.cumsum([shares[label] for label in labels])
    return labels[min(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"), len(labels) - 1)]


def _video_index(config: WorldConfig, index: int) -> int:
    """The post whose video this post shows: itself, or an earlier one."""
    while index > 0:
        rng = generator(config.seed, Purpose.POST, index)
        if rng.random() >= config.repost_rate:
            return index
        index = int(rng.integers(index))
    return 0


def describe_video(config: WorldConfig, index: int) -> Video:
    """The truth about the video made for the post at `index`."""
    rng = generator(config.seed, Purpose.POST, index, part=1)
    topic, draw = _draw_label(config, rng), rng.random()
    kind = "action"
    for name in ("untagged", "duplicate", "black", "broken"):
        rate = getattr(config, f"{name}_rate")
        if draw < rate:
            kind = name
            break
        draw -= rate
    plan = plan_video(config, Purpose.SOURCE_VIDEO, index, *topic)
    shape = (plan.height, plan.width, plan.fps, plan.num_frames)
    if kind == "duplicate":
        copy = plan_duplicate(config, index)
        target = describe_target(config, copy.target_index)
        if target.verb in (verb for verb, _ in config.source_labels):
            topic = _draw_label(config, rng, verb=target.verb)
        start_s = copy.first_frame / copy.fps
        return Video(
            index, kind, topic, target.verb, target.noun, copy.height, copy.width, copy.fps, copy.num_frames,
            start_s, start_s + copy.num_copied / copy.fps, plan, duplicate=copy,
        )  # fmt: skip
    if kind in ("black", "broken"):
        defect = BREAKS[rng.integers(len(BREAKS))] if kind == "broken" else None
        return Video(index, kind, topic, None, None, *shape, 0.0, 0.0, plan, defect=defect)
    return Video(index, kind, topic, *topic, *shape, plan.start_s, plan.end_s, plan)


def describe_post(config: WorldConfig, index: int) -> Post:
    """The post at `index`, with the truth about its video."""
    if not 0 <= index < config.num_posts:
        raise IndexError(f"post {index}: the platform has {config.num_posts} posts")
    video = describe_video(config, _video_index(config, index))
    rng = generator(config.seed, Purpose.POST_TEXT, index)
    shown: list[Label] = []
    if video.kind != "untagged":
        wrong = rng.random() < config.wrong_label_rate
        shown.append(_draw_label(config, rng, other_than=video.topic) if wrong else video.topic)
        if rng.random() < config.second_label_rate:
            second = _draw_label(config, rng, other_than=shown[0])
            if second != video.topic:  # never both right and wrong of the same post: the second is a wrong one
                shown.append(second)
    hashtags = _hashtags(video.topic, shown, rng)
    if generator(config.seed, Purpose.POST_TEXT, index, part=1).random() < config.word_tag_rate:
        hashtags += [word for label in shown for word in (VERBS[label[0]], label[1])]
    caption = CAPTIONS[rng.integers(len(CAPTIONS))]
    tagged_caption = " ".join([caption, *(f"#{tag}" for tag in hashtags)]).strip()
    if rng.random() < config.caption_only_rate:
        return Post(index, video, tuple(shown), (), tagged_caption)
    in_both = rng.random() < 0.3
    column = tuple(f"#{tag}" for tag in hashtags) if rng.random() < 0.3 else tuple(hashtags)
    return Post(index, video, tuple(shown), column, tagged_caption if in_both else caption)


def _hashtags(topic: Label, shown: list[Label], rng: np.random.Generator) -> list[str]:
    """1 to 10 hashtags without '#': some forms of each shown label, maybe near misses, unrelated ones; in any order."""
    tags: list[tuple[str, ...]] = []
    for label in shown:
        forms = label_forms(*label)
        chosen = rng.choice(len(forms), size=rng.integers(1, 3), replace=False, p=(0.45, 0.25, 0.15, 0.15))
        tags += [forms[i] for i in chosen]
    if rng.random() < 0.4:
        misses = near_miss_forms(*(shown[0] if shown else topic))
        tags.append(misses[rng.integers(len(misses))])
    room = MAX_HASHTAGS - len(tags)
    unrelated = rng.choice(len(UNRELATED_TAGS), size=rng.integers(0 if tags else 1, room + 1), replace=False)
    tags += [(UNRELATED_TAGS[i],) for i in unrelated]
    styles = rng.choice(["lower", "camel", "upper"], size=len(tags), p=(0.65, 0.28, 0.07))
    return [hashtag(tags[i], styles[i]) for i in rng.permutation(len(tags))]


def render_video(config: WorldConfig, index: int) -> bytes:
    """The file of the video made for the post at `index`: an H.264 MP4, unless it is a broken one."""
    video = describe_video(config, index)
    if video.duplicate is not None:
        return encode_mp4(duplicate_frames(config, video.duplicate), video.fps, video.duplicate.crf)
    if video.kind == "black":
        return encode_mp4(black_frames(video.height, video.width, video.num_frames), video.fps)
    file = encode_mp4(render_frames(config, video.plan), video.fps, video.plan.crf)
    if video.defect is not None:
        return broken(file, video.defect, generator(config.seed, Purpose.BROKEN, index))
    return file


def source_label_names(config: WorldConfig) -> list[str]:
    """The lines of `seed_labels.txt`: "rolling ball", ..."""
    return [label_name(*label) for label in config.source_labels]
