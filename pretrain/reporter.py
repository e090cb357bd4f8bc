"""What a pretraining run says while it runs: a progress bar, and about a thousand lines of metrics.jsonl."""

import time

from tqdm import tqdm

from pipeline import progress
from pipeline.artifacts import RunFiles
from pipeline.config import PretrainConfig
from pretrain.distributed import World
from pretrain.engine import StepResult
from pretrain.replaced import ReplacedClips
from pretrain.schedule import num_steps


class Reporter:
    """Of one process; only the first one's is heard.

    Args:
        config, files: of the run.
        world: this process among its peers.
        clips_seen: where this process begins; lines of metrics.jsonl beyond it will be written again.
        replaced: the run's.
    """

    def __init__(
        self, config: PretrainConfig, files: RunFiles, world: World, clips_seen: int, replaced: ReplacedClips
    ) -> None:
        self.replaced = replaced
        self.every = max(1, num_steps(config.recipe) // 1000)
        self.metrics = progress.MetricsFile(files.metrics, ("clips_seen", clips_seen)) if world.is_first else None
        about = {"desc": f"pretrain {config.run}", "total": config.recipe.total_clips, "unit": "clip"}
        self.bar = progress.bar(**about) if world.is_first else tqdm(disable=True)
        self.bar.update(clips_seen)
        self.began, self.began_at, self.clips_seen = time.perf_counter(), clips_seen, clips_seen
        self._open_interval()

    def step(self, clips_seen: int, result: StepResult, rate: float, waited_s: float) -> None:
        """After each step: the clips seen now, what the step said, its learning rate, and seconds spent on waiting."""
        self.results.append(result)
        self.waited_s += waited_s
        self.bar.update(clips_seen - self.clips_seen)
        self.clips_seen = clips_seen
        if len(self.results) == self.every:
            self._write_line(rate)
            self._open_interval()

    def close(self) -> tuple[float, float]:
        """End of the run: (seconds, clips per second over all processes) since this process began."""
        self.bar.close()
        if self.metrics is not None:
            self.metrics.close()
        seconds = time.perf_counter() - self.began
        return seconds, (self.clips_seen - self.began_at) / seconds

    def _open_interval(self) -> None:
        self.interval_began, self.interval_at = time.perf_counter(), self.clips_seen
        self.results: list[StepResult] = []
        self.waited_s = 0.0

    def _write_line(self, rate: float) -> None:
        """The interval's mean loss and accuracy, the last step's rate and gradient norm, clips replaced in the run so far."""
        replaced = self.replaced.total(self.clips_seen)
        seconds = time.perf_counter() - self.interval_began
        loss = sum(result.loss for result in self.results) / self.every
        waiting_share = self.waited_s / seconds
        self.bar.set_postfix_str(f"loss {loss:.3f}, waiting {waiting_share:.0%}", refresh=False)
        if self.metrics is not None:
            self.metrics.write(
                clips_seen=self.clips_seen,
                loss=loss,
                accuracy=sum(result.accuracy for result in self.results) / self.every,
                gradient_norm=self.results[-1].gradient_norm,
                learning_rate=rate,
                clips_per_s=(self.clips_seen - self.interval_at) / seconds,
                waiting_share=waiting_share,
                replaced=replaced,
            )
