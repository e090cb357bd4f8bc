"""How many clips of a run are not of the sample that the order names, because that one could not be read."""

import torch

from pipeline import progress
from pretrain.distributed import World
from pretrain.samples import SampleError

SHOWN = 20
EARLY = 0.01
"""Share of a run that is watched as a whole, so that one bad sample at its beginning does not end it."""


class ReplacedClips:
    """Counts them over all processes and restarts; checkpoints carry the total.

    Steps that a restart does again are counted once, so the total is the number of positions before `clips_seen` whose
    sample was replaced when the weights at hand were trained on it.

    Args:
        world: this process among its peers.
        before: the total of the checkpoint that this process begins with.
        limit: share of the clips seen from which on the run ends.
        total_clips: of the recipe.
    """

    def __init__(self, world: World, before: int, limit: float, total_clips: int) -> None:
        self.world, self.before, self.limit = world, before, limit
        self.early_clips = EARLY * total_clips
        self.mine = 0
        self.shown: set[str] = set()

    def add(self, reasons: list[str]) -> None:
        """A step's, of this process; the first few samples are named to the person at the terminal."""
        self.mine += len(reasons)
        for reason in reasons:
            if len(self.shown) < SHOWN and reason not in self.shown:
                self.shown.add(reason)
                progress.say(f"pretrain: another sample is taken instead: {reason}")

    def total(self, clips_seen: int) -> int:
        """Of the run so far. All processes must ask together.

        Raises: SampleError, on every process, when the limit is exceeded.
        """
        count = self.before + int(self.world.sum_(torch.tensor(self.mine, device=self.world.device)))
        if count > self.limit * max(clips_seen, self.early_clips):
            raise SampleError(
                f"{count:,} of {clips_seen:,} clips had to be replaced because their samples cannot be read, which is more "
                f"than max_replaced = {self.limit:g} allows; look at the shards with `tagreel inspect`, or allow more"
            )
        return count
