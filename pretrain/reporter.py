"""What a pretraining run says while it runs: a progress bar or lines, metrics.jsonl, TensorBoard."""

import importlib.util
import resource
import sys
import time

import torch
from tqdm import tqdm

from pipeline import progress
from pipeline.artifacts import RunFiles
from pipeline.config import ConfigError, PretrainConfig
from pretrain.distributed import World
from pretrain.engine import StepResult
from pretrain.replaced import ReplacedClips
from pretrain.schedule import num_steps

LINES_PER_RUN = 1000
SECONDS_PER_LINE = 60.0


def check(config: PretrainConfig) -> None:
    """Refuse to write for TensorBoard where it is not installed."""
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("tensorboard is not installed: install tagreel[train], or pass --no-tensorboard")


class Reporter:
    """Of one process; only the first one's is heard, but all measure.

    A line covers an interval of steps: a thousandth of the run, or fewer that take about a minute. The processes agree on
    each interval when the one before ends, in the exchange that also finds the worst of their waiting and memory; so
    there is no talk between lines, and a run says something after its first step, however slow.

    Args:
        config, files: of the run.
        world: this process among its peers.
        clips_seen: where this process begins; lines beyond it will be written again.
        replaced: the run's.
    """

    def __init__(
        self, config: PretrainConfig, files: RunFiles, world: World, clips_seen: int, replaced: ReplacedClips
    ) -> None:
        self.world, self.total, self.replaced = world, config.recipe.total_clips, replaced
        self.most_steps = max(1, num_steps(config.recipe) // LINES_PER_RUN)
        self.name = config.run
        self.metrics = self.events = None
        if world.is_first:
            self.metrics = progress.MetricsFile(files.metrics, ("clips_seen", clips_seen))
            self.events = progress.EventFile(files.tensorboard, clips_seen) if config.tensorboard else None
        about = {"desc": f"pretrain {config.run}", "total": self.total, "unit": "clip"}
        self.bar = progress.bar(**about) if world.is_first else tqdm(disable=True)
        self.bar.update(clips_seen)
        self.elapsed_before_s = self.metrics.last.get("elapsed_s", 0.0) if self.metrics else 0.0
        self.began, self.began_at, self.clips_seen = time.perf_counter(), clips_seen, clips_seen
        self.said_at = float("-inf")
        self.peak_memory: dict[str, float] = {}
        self.steps_in_line = 1
        self._open_interval()

    def step(self, clips_seen: int, result: StepResult, rate: float, waited_s: float) -> None:
        """After each step: the clips seen now, what the step said, its learning rate, and seconds spent on waiting."""
        self.results.append(result)
        self.waited_s += waited_s
        self.bar.update(clips_seen - self.clips_seen)
        self.clips_seen = clips_seen
        if len(self.results) == self.steps_in_line or clips_seen >= self.total or result.stop_asked:
            self._end_interval(rate)

    def close(self) -> dict[str, float]:
        """End of the run: seconds and clips per second (over all processes) since this process began; peak memory."""
        self.bar.close()
        for file in (self.metrics, self.events):
            if file is not None:
                file.close()
        seconds = time.perf_counter() - self.began
        return {"seconds": seconds, "clips_per_s": (self.clips_seen - self.began_at) / seconds, **self.peak_memory}

    def _open_interval(self) -> None:
        self.interval_began, self.interval_at = time.perf_counter(), self.clips_seen
        self.results: list[StepResult] = []
        self.waited_s = 0.0

    def _end_interval(self, rate: float) -> None:
        """The interval's mean loss and accuracy, the last step's rate and gradient norm, clips replaced so far; waiting is the
        worst process's.

        The slowest sets the pace of synchronous training: a mean would hide one starved process among many.
        """
        seconds = time.perf_counter() - self.interval_began
        waiting_share = self._agree(seconds)
        values = {
            "loss": sum(result.loss for result in self.results) / len(self.results),
            "accuracy": sum(result.accuracy for result in self.results) / len(self.results),
            "gradient_norm": self.results[-1].gradient_norm,
            "learning_rate": rate,
            "clips_per_s": (self.clips_seen - self.interval_at) / seconds,
            "waiting_share": waiting_share,
            "replaced": self.replaced.total(self.clips_seen),
            **self.peak_memory,
            "elapsed_s": self.elapsed_before_s + time.perf_counter() - self.began,
        }
        if self.metrics is not None:
            self.metrics.write(clips_seen=self.clips_seen, **values)
            self._say(**values)
        if self.events is not None:
            self.events.write(self.clips_seen, **{f"pretrain/{name}": value for name, value in values.items()})
        self._open_interval()

    def _agree(self, seconds: float) -> float:
        """Worst share of waiting; sets the peaks of memory over all processes and the length of the next interval."""
        steps = SECONDS_PER_LINE * len(self.results) / seconds  # that take a minute; the first process's word counts
        memory = memory_gb(self.world.device)
        mine = [steps if self.world.is_first else 0.0, self.waited_s / seconds, *memory.values()]
        steps, waiting_share, *peaks = self.world.max_(torch.tensor(mine, device=self.world.device)).tolist()
        self.steps_in_line = max(1, min(self.most_steps, int(steps)))
        self.peak_memory = dict(zip(memory, peaks, strict=True))
        return waiting_share

    def _say(self, loss: float, accuracy: float, clips_per_s: float, waiting_share: float, **_: float) -> None:
        """On the bar; where there is none (a log file), at most one line a minute."""
        now = time.perf_counter()
        text = f"loss {loss:.3f}, accuracy {accuracy:.1%}, waiting {waiting_share:.0%}"
        self.bar.set_postfix_str(text, refresh=False)
        if self.bar.disable and now - self.said_at >= SECONDS_PER_LINE:
            self.said_at = now
            left = tqdm.format_interval(max(0, self.total - self.clips_seen) / clips_per_s)
            progress.say(
                f"pretrain: {self.clips_seen:,} of {self.total:,} clips: {text}, {clips_per_s:,.1f} clips/s, "
                f"{left} to go at this speed"
            )


def memory_gb(device: torch.device) -> dict[str, float]:
    """Peaks of this process so far, in GB (1e9 bytes): resident memory and, on a GPU, what torch has allocated there."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if device.type == "cuda":
        peaks["gpu_memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return peaks
