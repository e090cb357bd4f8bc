"""Training is killed, told to stop, starved of disk and fed with what is not a number; then the same command goes on.

Runs are forks (tests/forks.py) of 12 steps with a checkpoint every two.
"""

import dataclasses
import errno
import hashlib
import random
import re
import shutil
import signal
from pathlib import Path

import pytest

from pipeline import artifacts
from pipeline.config import PretrainConfig, to_dict
from pipeline.progress import MetricsFile
from pipeline.storage import StorageError
from pretrain import checkpoint, train
from tests.forks import Forks, Outcome

STEPS, INTERVAL, BATCH = 12, 2, 4  # steps, steps between checkpoints, clips a step
LAST = f"{STEPS * BATCH:012d}"


def tensor_files(checkpoints: Path) -> dict[str, bytes]:
    """Weights and momenta at the end of a run."""
    return {name: (checkpoints / LAST / name).read_bytes() for name in (checkpoint.MODEL, checkpoint.OPTIMIZER)}


COUNTED = """
fault, save = faulty.Fault(10**9, None).install(), checkpoint.save
def counted(*arguments, **options):
    print("calls", fault.count)
    save(*arguments, **options)
    print("calls", fault.count)
checkpoint.save = counted
"""  # says how many disk calls there were before each checkpoint and after


class Runs:
    """Starts runs of one config under new names, and compares how they end with one that nothing disturbed."""

    def __init__(self, forks: Forks, config: PretrainConfig) -> None:
        self.forks, self.config, self.count = forks, config, 0
        name = self.new()
        outcomes = [self.start(name), self.start(self.new(), COUNTED)]
        assert [(outcome.status, outcome.num_steps) for outcome in outcomes] == [(0, STEPS)] * 2, outcomes[0].output
        self.seconds = outcomes[1].seconds
        counts = [int(line.split()[1]) for line in outcomes[1].output.splitlines() if line.startswith("calls ")]
        self.first_save, self.calls = counts[0], counts[-1]
        self.whole = tensor_files(self.checkpoints(name))

    def new(self) -> str:
        self.count += 1
        return f"{self.config.run}-{self.count}"

    def start(self, run: str, before: str = "", loader_workers: int = 0, **options) -> Outcome:
        values = {**to_dict(self.config), "run": run, "loader_workers": loader_workers}
        return self.forks(f"{before}\nstatus = run({values!r})", **options)

    def checkpoints(self, run: str) -> Path:
        return Path(artifacts.run_files(self.config.root, run).checkpoints)

    def assert_whole(self, run: str) -> int:
        """Whatever has a final name is whole, and at least two are kept of more; clips of the newest one."""
        folders = [path for path in self.checkpoints(run).glob("*") if path.name.isdigit()]
        clips = sorted(checkpoint.read(path).clips_seen for path in folders)
        assert len(clips) >= 2 or clips in ([], [INTERVAL * BATCH])
        return clips[-1] if clips else 0

    def assert_goes_on(self, run: str) -> None:
        """The same command ends with the weights and momenta of the undisturbed run; no litter is left."""
        begin = self.assert_whole(run) // BATCH
        outcome = self.start(run)
        assert outcome.status == 0, outcome.output
        assert outcome.num_steps == STEPS - begin
        found = self.checkpoints(run)
        assert tensor_files(found) == self.whole
        assert all(path.name.isdigit() for path in found.iterdir())
        shutil.rmtree(found.parent)


@pytest.fixture(scope="module")
def runs(forks, root, tiny_config):
    recipe = dataclasses.replace(tiny_config.recipe, batch_per_gpu=BATCH // 2, total_clips=STEPS * BATCH)
    clip = dataclasses.replace(tiny_config.clip, length=2, size_hw=(18, 20), crop_px=16)
    return Runs(forks, dataclasses.replace(tiny_config, clip=clip, recipe=recipe, checkpoint_clips=INTERVAL * BATCH))


# ----------------------------------------------------------------------------------------------------- kill -9


def kill_and_go_on(runs: Runs, draws: random.Random, in_window: bool) -> int:
    """Kill a run at a random time, or at a random disk call of its checkpoints, and finish it; steps done twice."""
    run = runs.new()
    if in_window:
        number = draws.randrange(runs.first_save, runs.calls)
        killed = runs.start(run, f"faulty.Fault({number}, None).install()")
    else:
        killed = runs.start(run, kill_after_s=draws.uniform(0, runs.seconds))
    if killed.status == 0 and not in_window:  # it was faster this time
        return kill_and_go_on(runs, draws, in_window)
    assert killed.status == -signal.SIGKILL, killed.output
    repeated = killed.num_steps - runs.assert_whole(run) // BATCH
    assert 0 <= repeated <= 2 * INTERVAL  # of the second interval, only what was trained during the write
    runs.assert_goes_on(run)
    return repeated


def test_killed_at_any_moment_a_run_ends_with_the_weights_of_one_that_was_not(runs):
    draws = random.Random(1)
    repeated = [kill_and_go_on(runs, draws, in_window=number % 3 == 0) for number in range(10)]
    assert max(repeated) > 0


@pytest.mark.slow
def test_300_kills(runs):
    draws = random.Random(2)
    repeated = [kill_and_go_on(runs, draws, in_window=number % 3 == 0) for number in range(300)]
    print(f"{len(repeated)} kills; steps done twice: { ({n: repeated.count(n) for n in sorted(set(repeated))}) }")


# ------------------------------------------------------------------------------------------- a disk that fails


def fail_and_go_on(runs: Runs, number: int, code: int | None) -> None:
    """One disk call of a run fails, or is its last; then the run is finished."""
    run = runs.new()
    outcome = runs.start(run, f"faulty.Fault({number}, {code}).install()")
    assert outcome.status in ((-signal.SIGKILL,) if code is None else (0, 2)), outcome.output
    if outcome.status == 2:
        assert "tagreel: cannot write" in outcome.output
    if outcome.status:
        runs.assert_goes_on(run)
    else:  # a new folder that was there already
        assert tensor_files(runs.checkpoints(run)) == runs.whole


@pytest.mark.parametrize(("share", "code"), [(0.0, errno.ENOSPC), (0.1, errno.ENOSPC), (0.5, errno.EIO), (0.9, None)])
def test_a_failing_disk_ends_the_run_and_the_same_command_goes_on(runs, share, code):
    fail_and_go_on(runs, int(share * runs.calls), code)


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, None])
def test_each_disk_call_of_a_run_fails_once(runs, code):
    numbers = [*range(runs.first_save), *range(runs.first_save, runs.calls, 23)]  # most of the others are alike
    for number in numbers:
        fail_and_go_on(runs, number, code)
    print(f"{len(numbers)} of {runs.calls} calls")


@pytest.mark.parametrize("is_checked", [True, False])
def test_a_disk_that_fills_up_ends_the_run_and_with_room_it_goes_on(runs, is_checked):
    """A real one: two checkpoints fit, the third does not, whether the free space is looked at first or not."""
    folder = Path(runs.config.root, "runs")
    one = sum(map(len, runs.whole.values())) + checkpoint.STATE_ROOM
    outcome = runs.start(
        runs.new(),
        before=f"""
import hashlib, pathlib
disk = faulty.SmallDisk(pathlib.Path({str(folder)!r}), {int(2.6 * one)})
{"" if is_checked else "checkpoint.check_room = lambda *_: None"}
def run(values, run=run):
    full = run(values)
    disk.resize({10 * one})
    again = run(values)
    found = checkpoint.newest(f"{folder}/{{values['run']}}/checkpoints")
    print("statuses", full, again, *found.state["sha256"].values(), found.clips_seen)
    return 0
""",
    )
    if "PermissionError" in outcome.output:
        pytest.skip("small file systems cannot be mounted here")
    digests = " ".join(hashlib.sha256(data).hexdigest() for data in runs.whole.values())
    assert re.search(r"bytes are needed and [\d,]+ are free; make room and run the same command again", outcome.output)
    assert f"statuses 2 0 {digests} {STEPS * BATCH}" in outcome.output


def test_metrics_that_cannot_be_written_are_an_error_that_names_them(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write '.*file/metrics.jsonl'"):
        MetricsFile(str(tmp_path / "file/metrics.jsonl"))
    metrics = MetricsFile(str(tmp_path / "others.jsonl"))
    metrics._file = open("/dev/full", "a", buffering=1)  # noqa: SIM115
    with pytest.raises(StorageError, match=r"cannot write '.*others.jsonl': No space left on device"):
        metrics.write(clips_seen=8)


# ----------------------------------------------------------------------------------------------- told to stop


def at_step(number: int, deed: str) -> str:
    """Code that does something on the way into a step."""
    return f"""
step, calls = Engine.step, []
def told(*arguments, **options):
    calls.append(0)
    if len(calls) == {number}:
        {deed}
    return step(*arguments, **options)
Engine.step = told
"""


IN_A_WRITE = """
save = checkpoint.save
def told(*arguments, **options):
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)  # training goes on
    return save(*arguments, **options)
checkpoint.save = told
"""


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(at_step(5, "os.kill(os.getpid(), signal.SIGTERM)"), id="SIGTERM"),
        pytest.param(at_step(5, "os.kill(os.getpid(), signal.SIGINT)"), id="SIGINT"),
        pytest.param(at_step(5, "[os.kill(os.getpid(), signal.SIGINT) for _ in range(3)]"), id="repeated"),
        pytest.param(IN_A_WRITE, id="in a write"),
    ],
)
def test_told_to_stop_a_run_saves_leaves_with_a_status_of_its_own_and_goes_on(runs, before):
    run = runs.new()
    told = runs.start(run, before)
    assert told.status == train.EXIT_INTERRUPTED, told.output
    assert f"saved at {told.num_steps * BATCH:,} clips" in told.output
    assert checkpoint.newest(runs.checkpoints(run)).clips_seen == told.num_steps * BATCH
    runs.assert_goes_on(run)


def test_signals_to_the_whole_group_do_not_end_the_loader_first(runs):
    run = runs.new()
    kill = "subprocess.run(['kill', '-{}', '--', f'-{{os.getpgrp()}}'], start_new_session=True); "
    told = runs.start(run, "import subprocess" + at_step(5, kill.format("TERM") + kill.format("INT")), loader_workers=1)
    assert told.status == train.EXIT_INTERRUPTED, told.output
    runs.assert_goes_on(run)


def test_a_second_ctrl_c_some_time_later_leaves_at_once(runs):
    run = runs.new()
    twice = "os.kill(os.getpid(), signal.SIGINT); train.REPEATED_S = 0; os.kill(os.getpid(), signal.SIGINT)"
    told = runs.start(run, at_step(6, twice))
    assert (told.status, told.num_steps) == (130, 5), told.output
    assert checkpoint.newest(runs.checkpoints(run)).clips_seen == 4 * BATCH
    runs.assert_goes_on(run)


@pytest.mark.distributed
def test_a_signal_to_one_process_stops_all_of_them_and_all_wait_for_the_checkpoint(runs):
    run = runs.new()
    told = runs.start(run, at_step(5, "os.environ['RANK'] == '1' and os.kill(os.getpid(), signal.SIGTERM)"), ranks=2)
    assert told.statuses == [train.EXIT_INTERRUPTED] * 2, told.output
    assert checkpoint.newest(runs.checkpoints(run)).clips_seen == told.num_steps // 2 * BATCH < STEPS * BATCH
    assert runs.start(run, ranks=2).statuses == [0, 0]


# ------------------------------------------------------------------------------------------------ not a number


@pytest.mark.distributed
def test_what_is_not_a_number_in_one_process_stops_all_and_names_its_samples(runs):
    run = runs.new()
    poison = """
from pretrain import transforms
normalise, seen = transforms.normalise, []
def poisoned(clips):
    seen.append(0)
    return normalise(clips) * (float("nan") if (os.environ["RANK"], len(seen)) == ("1", 5) else 1.0)
transforms.normalise = poisoned
"""
    first, second = (outcome := runs.start(run, poison, ranks=2)).outputs
    assert outcome.statuses == [2, 2], outcome.output
    assert re.search(
        r"diverged after 16 clips.*Not finite were the losses at positions 18–19: v00\d\d, v00\d\d", second
    )
    assert re.search(r"diverged after 16 clips.*All losses of this process were finite", first)
    assert checkpoint.newest(runs.checkpoints(run)).clips_seen == 16
