"""MAIN FLOW 2: shards → checkpoint. Weakly-supervised pretraining (paper, Section 3.3).

    torchrun --nproc-per-node=8 -m pretrain.train --config run.json
    python -m pretrain.train --config run.json       (one process: the same up to rounding, or exactly with `exact`)

What survives a restart is one number, the clips seen, with the weights and the momentum at that point: the order of the
samples, their augmentation and the learning rate are functions of it.
"""

import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

import torch

from pipeline import artifacts, progress, storage
from pipeline import config as configs
from pipeline.artifacts import RunFiles
from pipeline.cli import EXIT_INTERRUPTED, REPEATED_S, run_stage
from pipeline.config import ConfigError, PretrainConfig
from pretrain import checkpoint, schedule
from pretrain.checks import check
from pretrain.data import MicrobatchSampler, Share, TrainingClips, microbatches
from pretrain.distributed import World, joined, prepare_exact
from pretrain.engine import Engine, NonFiniteStepError
from pretrain.models import build_model, count
from pretrain.models.counts import shapes_only
from pretrain.models.padding import pad_channels
from pretrain.models.start import Origin, started
from pretrain.prefetch import on_device
from pretrain.provenance import device_name, provenance
from pretrain.reading import open_reader
from pretrain.replaced import ReplacedClips
from pretrain.reporter import Reporter
from pretrain.samples import Samples, open_samples
from pretrain.saver import Saver, identity
from pretrain.schedule import learning_rate, num_steps
from pretrain.virtual_workers import VirtualWorkers

FAULTS_SHOWN = 4  # microbatches that are named when training diverges; often all are at fault


def train(config: PretrainConfig) -> None:
    """Train to the end of the recipe, from the newest checkpoint of the run if there is one."""
    check(config)
    with joined(timeout_s=config.peer_timeout_s) as world, StopRequest() as stop, ExitStack() as exits:
        if config.exact:
            prepare_exact(world.device)
        recipe, files = config.recipe, artifacts.run_files(config.root, config.run)
        workers = VirtualWorkers(recipe.virtual_workers, recipe.batch_per_gpu, world.rank, world.size)
        samples = open_samples(
            artifacts.dataset_files(config.data_root or config.root, config.dataset),
            f"run `tagreel build --dataset {config.dataset}` first",
            config.shard_cache,
        )
        torch.manual_seed(recipe.seed)
        model, origin = started(config.model, samples.num_labels)
        inputs = samples.digests | origin.digests
        if is_finished(config, files, inputs, world):
            progress.say(f"pretrain: run '{config.run}' is finished; nothing to do")
            return

        model = model.to(world.device)
        if config.pad_channels:
            pad_channels(model)
        options = {"exact": config.exact, "compile": config.compile}
        engine = Engine(model, world, recipe.momentum, recipe.weight_decay, recipe.precision, **options)
        run_identity = identity(config, inputs)
        clips_seen, num_replaced = resume(engine, files, run_identity)
        announce(config, samples, workers, engine, origin, clips_seen)

        clips = TrainingClips(
            samples,
            config.clip,
            recipe.seed,
            shuffle_shards=recipe.shuffle_shards,
            replace=config.on_unreadable == "replace",
            reader=open_reader(samples, config),
        )
        sampler = MicrobatchSampler(workers, clips_seen // workers.global_batch, num_steps(recipe))
        loader = microbatches(clips, sampler, config.loader_workers, pin=world.device.type == "cuda")
        loader = on_device(loader, world.device)
        replaced = ReplacedClips(world, num_replaced, config.max_replaced, recipe.total_clips)
        report = Reporter(config, files, world, clips_seen, replaced)
        saver = exits.enter_context(Saver(config, files.checkpoints, engine, run_identity, clips_seen))

        while clips_seen < num_steps(recipe) * workers.global_batch:
            mine = Share(islice(loader, len(workers.mine)), recipe.seed, world.device)
            try:
                rate = learning_rate(clips_seen, recipe)
                result = engine.step(mine, workers.num_workers, rate, stop.asked)
            except NonFiniteStepError as error:
                raise diverged(error, mine, samples, clips_seen) from error
            clips_seen += workers.global_batch
            replaced.add(mine.replaced)
            report.step(clips_seen, result, rate, mine.waited_s)
            if saver.is_due(clips_seen) or result.stop_asked:
                saver.save(clips_seen, replaced=replaced.total(clips_seen))
            if result.stop_asked:
                raise interrupted(saver, clips_seen)

        saver.close(clips_seen, replaced=replaced.total(clips_seen))
        finish(config, files, samples, clips_seen, report, saver)


# ---------------------------------------------------------------------------------------------- before the loop


def is_finished(config: PretrainConfig, files: RunFiles, digests: dict[str, str], world: World) -> bool:
    """Begin or take up the run's folder, on the first rank; true on all when there is nothing left to do."""
    finished = torch.zeros(1, device=world.device)
    if world.is_first:
        finished += artifacts.open_stage(files.folder, files.marker, config, digests) is not None
    return bool(world.broadcast_(finished))


def resume(engine: Engine, files: RunFiles, run_identity: dict[str, Any]) -> tuple[int, int]:
    """Take up the newest whole checkpoint, if it is of this run; returns the clips seen and those replaced, 0 without one."""
    world = engine.world
    found = checkpoint.recover(files.checkpoints) if world.is_first else None
    expected = int(world.broadcast_(torch.tensor(found.clips_seen if found else 0, device=world.device)))
    if not world.is_first:
        found = checkpoint.newest(files.checkpoints)
    if expected != (found.clips_seen if found else 0):
        raise ConfigError(
            f"process {world.rank} sees other checkpoints in '{files.checkpoints}' than the first one does: all "
            "processes of a run must share one disk"
        )
    if found is not None:
        if changed := configs.differences({name: found.state.get(name) for name in run_identity}, run_identity):
            raise ConfigError(
                f"checkpoint '{found.path}' is of another configuration or of other data: {'; '.join(changed)}"
            )
        engine.load(found.model_tensors(), found.optimizer_tensors())
    return expected, found.state.get("replaced", 0) if found else 0


def announce(
    config: PretrainConfig, samples: Samples, workers: VirtualWorkers, engine: Engine, origin: Origin, start: int
) -> None:
    """What is about to be done, for the person at the terminal."""
    with shapes_only():  # the network as it is stored, whether or not this one is padded
        stored = build_model(config.model.name, samples.num_labels, config.model.width)
    num_params, gmac = count(stored, config.clip.length, config.clip.crop_px)
    progress.say_counts(f"pretrain: videos of '{samples.name}'", samples.total, len(samples), samples.dropped)
    progress.say(
        f"pretrain: {config.model.name}, {num_params / 1e6:.1f}M parameters, {gmac:.2f} GMAC a clip, "
        f"{samples.num_labels} labels; {workers.num_workers} virtual workers × {workers.batch} clips on "
        f"{workers.world_size} process(es), {device_name(engine.world.device)}"
        + (f"; resuming at {start:,} of {config.recipe.total_clips:,} clips" if start else f"; {origin.description}")
    )
    if workers.imbalance:
        progress.say(f"pretrain: {workers.imbalance}")
    progress.say(f"pretrain: {schedule.describe(config.recipe)}")


# ---------------------------------------------------------------------------------------------- in the loop


class StopRequest:
    """Whether SIGTERM or SIGINT came, inside a `with` block: the step at hand is finished and saved first.

    However often they come, this is one wish; launchers repeat signals. Only a Ctrl-C some time after another one, from
    somebody who will not wait, ends the process at once.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __enter__(self) -> "StopRequest":
        self.asked, self.asked_at = False, 0.0
        self.before = [signal.signal(number, self._ask) for number in self.SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(self.SIGNALS, self.before, strict=True):
            signal.signal(number, handler)

    def _ask(self, number: int, _: object) -> None:
        if self.asked and number == signal.SIGINT and time.monotonic() - self.asked_at > REPEATED_S:
            raise KeyboardInterrupt
        self.asked, self.asked_at = True, time.monotonic()


def interrupted(saver: Saver, clips_seen: int) -> SystemExit:
    """All wait for the last write, because a launcher ends every process soon after the first one that leaves."""
    saver.close(clips_seen)
    saver.engine.world.barrier()
    progress.say(f"pretrain: told to stop; saved at {clips_seen:,} clips, the same command goes on from there")
    return SystemExit(EXIT_INTERRUPTED)


def diverged(error: NonFiniteStepError, share: Share, samples: Samples, clips_seen: int) -> ConfigError:
    """Names the step and, where single microbatches are at fault, their positions and videos."""
    faults = [
        f"positions {share.positions[number][0]}–{share.positions[number][-1]}: "
        + ", ".join(samples.key(sample) for sample in share.samples[number])
        for number in error.microbatches[:FAULTS_SHOWN]
    ]
    if (more := len(error.microbatches) - len(faults)) > 0:
        faults.append(f"and in {more} more microbatches of this process")
    return ConfigError(
        f"training diverged after {clips_seen:,} clips ({error}); the checkpoints before it are kept. "
        + (
            "Not finite were the losses at " + "; ".join(faults)
            if faults
            else "All losses of this process were finite."
        )
        + " A lower recipe.lr_per_gpu or a longer recipe.warmup_clips may help."
    )


# ---------------------------------------------------------------------------------------------- after the loop


def finish(
    config: PretrainConfig, files: RunFiles, samples: Samples, clips_seen: int, report: Reporter, saver: Saver
) -> None:
    """Write run.json, last of all, and say what was done."""
    performance, world = report.close(), saver.engine.world
    num_replaced = report.replaced.total(clips_seen)
    if world.is_first:
        path = storage.join("checkpoints", f"{clips_seen:012d}")
        counts = {"videos": samples.total, "kept": len(samples), "dropped": samples.dropped}
        counts |= {"clips_seen": clips_seen, "replaced": num_replaced}
        artifacts.seal(
            files.folder,
            files.marker,
            counts,
            checkpoint=path,
            num_labels=samples.num_labels,
            labels=samples.labels,
            schedule=schedule.describe(config.recipe),
            performance=performance,
            provenance=provenance(world),
        )
        progress.say(
            f"pretrain: run '{config.run}' finished: {clips_seen:,} clips ({clips_seen / len(samples):.1f} passes over "
            f"{len(samples):,} videos); this time {performance['seconds']:.0f} s at {performance['clips_per_s']:,.0f} "
            f"clips/s, {saver.summary()}; {files.folder}/{path}"
        )
    world.barrier()


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the stage."""
    run_stage(PretrainConfig, train, argv)


if __name__ == "__main__":
    main()
