"""A simulated social platform whose truth is known: rendered videos, posts with hashtags, target sets, planted copies.

`write_world(WorldConfig(), root)` writes one to a folder. A verb is a motion, a noun is an object; everything is a pure
function of (seed, index).
"""

from pipeline.world.config import WorldConfig
from pipeline.world.platform import WorldSummary, write_world
from pipeline.world.posts import Post, Video, describe_post, describe_video, render_video
from pipeline.world.targets import Target, describe_target, render_target

__all__ = [
    "Post", "Target", "Video", "WorldConfig", "WorldSummary", "describe_post", "describe_target", "describe_video",
    "render_target", "render_video", "write_world",
]  # fmt: skip
