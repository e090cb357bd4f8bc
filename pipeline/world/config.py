"""What a world is: one frozen dataclass.

The defaults are easy enough for a small network trained on two cores; the knobs make it harder.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from pipeline.world.vocabulary import NOUNS, VERBS


@dataclass(frozen=True)
class WorldConfig:
    seed: int = 0
    """Everything is a pure function of (seed, index)."""

    # --- posts
    num_posts: int = 2000
    """Posts on the platform; a larger world with the same seed and knobs starts with the posts of a smaller one."""
    num_verbs: int = 8
    """Motions in the source labels: the first of `vocabulary.VERBS`."""
    num_nouns: int = 4
    """Objects in the source labels: the first of `vocabulary.NOUNS`. Labels = num_verbs × num_nouns."""
    zipf_exponent: float = 0.5
    """The label of rank r is drawn with probability proportional to r ** -zipf_exponent."""
    wrong_label_rate: float = 0.2
    """Share of labelled posts whose label is not what the video shows."""
    second_label_rate: float = 0.03
    """Share of labelled posts that carry one more label, always a wrong one."""
    word_tag_rate: float = 0.0
    """Share of labelled posts that also name verb and noun of each label by tags of their own: #rolling #ball."""
    untagged_rate: float = 0.2
    """Share of videos of an action whose post has no tag that names a label."""
    caption_only_rate: float = 0.1
    """Share of posts whose hashtags stand in the caption text and not in the hashtags column."""
    repost_rate: float = 0.02
    """Share of posts that point at the video of an earlier post."""
    duplicate_rate: float = 0.01
    """Share of videos that contain a video of the target set (`duplicates.TRANSFORMS`)."""
    black_rate: float = 0.005
    """Share of videos that are black throughout."""
    broken_rate: float = 0.005
    """Share of videos whose file cannot be decoded (empty, cut off, garbage, text)."""

    # --- files
    short_side_px: tuple[int, int] = (96, 144)
    """Short side of a video, in pixels: lowest and highest (rounded to even)."""
    aspect_ratios: tuple[float, ...] = (4 / 3, 4 / 3, 4 / 3, 1.0, 3 / 4, 16 / 9)
    """Width over height, drawn uniformly; repeat a value to weight it."""
    frame_rates: tuple[float, ...] = (12.0, 12.0, 12.0, 12.5, 12.5, 15.0, 15.0, 15.0, 16.0, 16.0, 24.0, 29.97)
    """Frames per second, drawn uniformly; repeat a value to weight it."""
    duration_s: tuple[float, float] = (1.0, 4.0)
    """Shortest and longest ordinary video, in seconds; shorter ones are commoner."""
    long_rate: float = 0.015
    """Share of long videos."""
    long_duration_s: tuple[float, float] = (6.0, 60.0)
    """Shortest and longest long video, in seconds, log-uniform."""
    long_action_share: tuple[float, float] = (0.15, 0.6)
    """Share of a long video that its action fills; the rest shows the object at rest, the empty scene or another."""

    # --- difficulty
    object_diameter: tuple[float, float] = (0.4, 0.7)
    """Smallest and largest diameter of the object, as a share of the short side."""
    colour_contrast: float = 1.0
    """1: a light object on a dark background; 0: the object is painted in the background's colours."""
    background_clutter: float = 0.1
    """Strength and fineness of the background's pattern, 0 (faint and coarse) to 1."""
    num_distractors: float = 0.05
    """Mean number of small, motionless other objects in the scene."""
    camera_shake: float = 0.005
    """Amplitude of the camera's movement, as a share of the short side."""
    motion_period_s: tuple[float, float] = (0.8, 1.3)
    """Fastest and slowest cycle of a motion, in seconds."""

    # --- target set
    num_target_verbs: int = 12
    """Motions of the target set: the first of `vocabulary.VERBS`, so those past num_verbs are unseen in the source."""
    num_target_nouns: int = 4
    """Objects of the target set: those after the source's nouns, so all are unseen in the source."""
    train_videos_per_class: int = 5
    """Training videos for each verb of the target set."""
    test_videos_per_class: int = 40
    """Test videos for each verb of the target set."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_share = field.name.endswith("_rate") or field.name in ("colour_contrast", "background_clutter")
            if is_share and not 0 <= value <= 1:
                raise ValueError(f"{field.name} = {value}: must lie between 0 and 1")
            if isinstance(value, (tuple, list)):
                object.__setattr__(self, field.name, tuple(value))
                if field.name not in ("aspect_ratios", "frame_rates") and not 0 < value[0] <= value[1]:
                    raise ValueError(f"{field.name} = {value}: must be (lowest, highest), both above 0")
        if not (1 <= self.num_verbs <= len(VERBS) and 1 <= self.num_target_verbs <= len(VERBS)):
            raise ValueError(f"num_verbs and num_target_verbs: between 1 and {len(VERBS)}")
        if self.num_nouns < 1 or self.num_target_nouns < 1 or self.num_nouns + self.num_target_nouns > len(NOUNS):
            raise ValueError(f"num_nouns + num_target_nouns: at most {len(NOUNS)}, each at least 1 (they share none)")
        if self.untagged_rate + self.duplicate_rate + self.black_rate + self.broken_rate > 1:
            raise ValueError("untagged_rate + duplicate_rate + black_rate + broken_rate: more than 1 together")
        if self.num_verbs * self.num_nouns < 2:
            raise ValueError("num_verbs × num_nouns: a world needs two labels at least")

    @property
    def source_labels(self) -> list[tuple[str, str]]:
        """(verb lemma, noun) of every source label, verbs outermost."""
        return [(verb, noun) for verb in list(VERBS)[: self.num_verbs] for noun in NOUNS[: self.num_nouns]]

    @property
    def target_verbs(self) -> list[str]:
        """Verb lemmas of the target set."""
        return list(VERBS)[: self.num_target_verbs]

    @property
    def target_nouns(self) -> list[str]:
        """Nouns of the target set, none of them in the source."""
        return list(NOUNS[self.num_nouns : self.num_nouns + self.num_target_nouns])

    @property
    def num_targets(self) -> int:
        """Videos in the target set, training and test together."""
        return self.num_target_verbs * (self.train_videos_per_class + self.test_videos_per_class)
