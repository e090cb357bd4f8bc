"""`exact`: one fixed tree over the virtual workers, whoever adds. Ranks are threads here, and processes at the end."""

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline import artifacts
from pretrain import checkpoint, distributed, train
from pretrain.distributed import World, prepare_exact
from pretrain.engine import Engine, NonFiniteStepError
from pretrain.models import build_model
from pretrain.sums import FlatSum, TreeSum
from pretrain.tree import Tree, subtrees
from pretrain.virtual_workers import share


class Peers:
    """What `torch.distributed` is to processes, for threads."""

    def __init__(self, size: int) -> None:
        self.box: list[Tensor | None] = [None] * size
        self.barrier = threading.Barrier(size)

    def all(self, rank: int, mine: Tensor) -> list[Tensor]:
        self.box[rank] = mine
        self.barrier.wait()
        found = [tensor.clone() for tensor in self.box]
        self.barrier.wait()
        return found


@dataclasses.dataclass(frozen=True)
class ThreadWorld(World):
    peers: Peers | None = None

    def sum_(self, tensor):
        return tensor.copy_(torch.stack(self.peers.all(self.rank, tensor)).sum(0))

    def broadcast_(self, tensor):
        return tensor.copy_(self.peers.all(self.rank, tensor)[0])

    def exchange(self, parts, counts):
        received = [parts[self.rank] for parts in self.peers.all(self.rank, parts)]
        assert [len(part) for part in received] == counts
        return torch.cat(received)

    def gather_(self, whole, part):
        return whole.copy_(torch.cat(self.peers.all(self.rank, part)))


def on_ranks(size: int, work: Callable[[World], object], device: str = "cpu") -> list:
    """`work(world)` on `size` ranks at once; what each returned."""
    peers = Peers(size)

    def start(rank: int) -> object:
        torch.set_num_threads(1)
        try:
            return work(ThreadWorld(rank, size, torch.device(device), peers))
        except BaseException:
            peers.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(start, range(size)))


def halves(first: int, size: int, num_leaves: int) -> str:
    """The tree by its definition, from the root down: a node of `size` leaves, of which those beyond the last are missing."""
    if size == 1:
        return str(first)
    middle = first + size // 2
    left = halves(first, size // 2, num_leaves)
    return left if middle >= num_leaves else f"({left}+{halves(middle, size // 2, num_leaves)})"


def written(left: str, right: str) -> str:
    return f"({left}+{right})"


workers_and_ranks = st.integers(1, 200).flatmap(lambda num: st.tuples(st.just(num), st.integers(1, num)))


@given(workers_and_ranks)
def test_ranks_that_add_up_their_subtrees_make_the_very_same_additions(case):
    num_leaves, size = case
    whole = Tree(num_leaves, written)
    for rank in range(size):
        leaves = share(num_leaves, rank, size)
        mine = Tree(num_leaves, written)
        for leaf in leaves:
            mine.push(range(leaf, leaf + 1), str(leaf))
            assert len(mine.values) <= 2 * num_leaves.bit_length()
        assert mine.spans == subtrees(leaves, num_leaves)
        for span, value in zip(mine.spans, mine.values, strict=True):
            whole.push(span, value)
    assert whole.spans == [range(num_leaves)]
    assert whole.values == [halves(0, 1 << (num_leaves - 1).bit_length(), num_leaves)]


@pytest.mark.parametrize("size", [1, 2, 8, 128])
def test_an_aligned_share_is_one_subtree_and_takes_the_buffers_that_are_promised(size):
    leaves, buffers = share(128, size - 1, size), 0
    assert subtrees(leaves, 128) == [leaves]
    tree = Tree(128, lambda left, right: None)
    for leaf in leaves:
        buffers = max(buffers, len(tree.values) + 1)  # those waiting, and the one being filled
        tree.push(range(leaf, leaf + 1), None)
    assert buffers == (128 // size).bit_length()  # log2(V / processes) + 1


def summed(kind: type, terms: np.ndarray, size: int) -> list[np.ndarray]:
    """The sum of float32 [V, numel] over V, as each of `size` ranks has it after a second step."""

    def work(world: World) -> np.ndarray:
        sums = kind(terms.shape[1], world)
        for step in (np.ones_like(terms), terms):
            sums.begin(len(terms))
            for worker in share(len(terms), world.rank, size):
                sums.flat += torch.from_numpy(step[worker])
                sums.close_term()
            sums.finish()
        return sums.flat.numpy().copy()

    return on_ranks(size, work)


@settings(max_examples=25)
@given(st.integers(1, 24), st.lists(st.integers(1, 24), min_size=2, max_size=3), st.integers(1, 40), st.integers(0, 99))
def test_the_sum_has_the_same_bits_on_all_ranks_of_all_numbers_of_ranks(num_workers, sizes, numel, seed):
    terms = np.random.default_rng(seed).normal(size=(num_workers, numel)).astype(np.float32)
    exactly = terms.astype(np.float64).sum(0)
    found = {result.tobytes() for size in sizes for result in summed(TreeSum, terms, min(size, num_workers))}
    assert len(found) == 1
    depth = max(1, (num_workers - 1).bit_length())
    bound = depth * np.finfo(np.float32).eps * np.abs(terms).sum(0)  # one rounding a level
    assert (np.abs(np.frombuffer(found.pop(), np.float32) - exactly) <= bound).all()
    flat = summed(FlatSum, terms, min(sizes[0], num_workers))
    np.testing.assert_allclose(
        flat[0], exactly, atol=float(num_workers * np.finfo(np.float32).eps * np.abs(terms).sum(0).max())
    )


def test_buffers_are_kept_from_step_to_step():
    sums = TreeSum(3, World())
    for _ in range(3):
        sums.begin(8)
        for _ in range(8):
            sums.close_term()
        sums.finish()
    assert len(sums.free) == 3  # log2(8), beside the one that gradients are written to


# ------------------------------------------------------------------------------------------------- whole steps


def smallest() -> nn.Module:
    return build_model("r2plus1d_10", 5, width=0.0625)


def shallow() -> nn.Module:
    """A network that does not blow up rounding."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 16 * 16, 5), nn.BatchNorm1d(5), nn.Linear(5, 5))


def after(
    steps: int, size: int, build: Callable[[], nn.Module] = smallest, device: str = "cpu", **options
) -> list[dict[str, Tensor]]:
    """Weights, running statistics, momenta and the last result of each rank; six virtual workers of four clips."""

    def work(world: World) -> dict[str, Tensor]:
        with lock:
            torch.manual_seed(0)
            model = build().to(device)
        engine = Engine(model, world, **options)
        draw = torch.Generator()
        for step in range(steps):
            batches = []
            for worker in share(6, world.rank, size):
                draw.manual_seed(100 * step + worker)
                clips, labels = torch.randn(4, 3, 2, 16, 16, generator=draw), torch.tensor([0, 1, 2, worker % 5])
                batches.append((clips.to(device), labels.to(device)))
            result = engine.step(batches, 6, 0.05, ask_stop=world.rank == size - 1 and step == 1)
        momenta = {f"momentum {name}": tensor for name, tensor in engine.optimizer_tensors().items()}
        told = torch.tensor(
            [result.loss, result.accuracy, result.gradient_norm, result.stop_asked], dtype=torch.float64
        )
        return {**model.state_dict(), **momenta, "told": told}

    lock = threading.Lock()  # the seed is every thread's
    return on_ranks(size, work, device)


def hashed(tensors: dict[str, Tensor]) -> bytes:
    return b"".join(tensor.cpu().numpy().tobytes() for tensor in tensors.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_momentum_and_running_statistics_have_the_same_bits_for_any_number_of_ranks(precision):
    results = {
        size: after(2, size, exact=True, precision=precision) for size in (1, 2, 4, 6)
    }  # 4 ranks: 1, 2, 1, 2 workers
    assert len({hashed(tensors) for ranks in results.values() for tensors in ranks}) == 1
    assert results[1][0]["told"][3] == 1.0
    assert results[1][0]["stem.1.num_batches_tracked"] == 2


@pytest.mark.gpu
def test_a_gpu_gives_the_same_bits_for_any_number_of_ranks():
    prepare_exact(torch.device("cuda"))
    try:
        results = [after(2, size, device="cuda", exact=True, precision="bf16") for size in (1, 1, 2, 4)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert len({hashed(tensors) for ranks in results for tensors in ranks}) == 1


@pytest.mark.parametrize("size", [1, 4])
def test_both_ways_to_add_agree_up_to_rounding(size):
    exact, default = (after(2, size, shallow, exact=exact)[0] for exact in (True, False))
    for name, tensor in exact.items():
        torch.testing.assert_close(
            default[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_all_ranks_refuse_a_step_that_is_not_finite_and_undo_it():
    def work(world: World) -> tuple[list[int], bool]:
        engine = Engine(shallow(), world, exact=True)
        before = {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}
        batches = [(torch.randn(4, 3, 2, 16, 16), torch.arange(4)) for _ in share(6, world.rank, 4)]
        if world.rank == 1:
            batches[1][0][0] = float("nan")
        with pytest.raises(NonFiniteStepError) as caught:
            engine.step(batches, 6, 0.05)
        same = all(torch.equal(tensor, before[name]) for name, tensor in engine.model.state_dict().items())
        return caught.value.microbatches, same

    assert on_ranks(4, work) == [([], True), ([1], True), ([], True), ([], True)]


# --------------------------------------------------------------------------------------------------- processes


def schedule(config, run: str, *parts: tuple[int, int]):
    """A run that is trained for some steps on some processes, and then goes on on others: (processes, steps), …"""
    return dataclasses.replace(config, run=run), parts


def take_part(rank: int, schedules: list, folder: str) -> None:
    """Process `rank` of all that a list of schedules needs: those beyond a part's number of processes sit it out."""
    for number, (config, parts) in enumerate(schedules):
        for part, (size, steps) in enumerate(parts):
            if rank < size:
                store = f"file://{folder}/{number}-{part}"
                train_for(steps, config, rank, size, store)


def train_for(steps: int, config, rank: int, size: int, store: str) -> None:
    step, calls = Engine.step, []

    def step_until_stopped(*arguments, **options):
        calls.append(0)
        if len(calls) > steps:
            raise KeyboardInterrupt
        return step(*arguments, **options)

    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
    Engine.step = step_until_stopped
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    meet, distributed.meet = distributed.meet, lambda backend, timeout_s: None
    try:
        train.train(config)
    except KeyboardInterrupt:
        pass
    finally:
        Engine.step, distributed.meet = step, meet


def trained(schedules: list, folder) -> dict[str, bytes]:
    """What `last_checkpoint` says at the end of each schedule, by run. One server imports torch for all processes."""
    multiprocessing.set_forkserver_preload([__name__])
    num_processes = max(size for _, parts in schedules for size, _ in parts)
    mp.start_processes(take_part, (schedules, str(folder)), num_processes, start_method="forkserver")
    return {config.run: last_checkpoint(config) for config, _ in schedules}


def last_checkpoint(config) -> bytes:
    found = checkpoint.newest(artifacts.run_files(config.root, config.run).checkpoints)
    assert found.clips_seen == config.recipe.total_clips
    return b"".join((found.path / name).read_bytes() for name in (checkpoint.MODEL, checkpoint.OPTIMIZER))


@pytest.fixture
def exact(named, monkeypatch):
    """Three steps of eight virtual workers of two clips, a checkpoint after each; on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = named("exact_1", virtual_workers=8, batch_per_gpu=2, total_clips=48, warmup_clips=16)
    return dataclasses.replace(config, exact=True, checkpoint_clips=16)


@pytest.mark.distributed
def test_processes_that_come_and_go_end_with_the_same_bits(exact, tmp_path):
    train.train(exact)
    found = trained(
        [
            schedule(exact, "exact_2", (2, 3)),
            schedule(exact, "exact_4", (4, 3)),
            schedule(exact, "exact_4_2_1", (4, 1), (2, 1), (1, 1)),
        ],
        tmp_path,
    )
    assert {run: content == last_checkpoint(exact) for run, content in found.items()} == dict.fromkeys(found, True)


@pytest.mark.slow
@pytest.mark.distributed
def test_twelve_schedules_over_up_to_eight_processes_end_with_the_same_bits(exact, tmp_path):
    exact = dataclasses.replace(exact, run="twelve_1", recipe=dataclasses.replace(exact.recipe, total_clips=128))
    train.train(exact)
    orders = ["2", "4", "8", "3", "4 2 8", "8 4 2 1", "1 2 4 8", "2 8 1", "8 1", "1 8 2", "5 8 3", "7 6 4 2"]
    schedules = []
    for sizes in (list(map(int, order.split())) for order in orders):
        steps = [8 // len(sizes)] * (len(sizes) - 1)
        parts = zip(sizes, [*steps, 8 - sum(steps)], strict=True)
        schedules.append(schedule(exact, "twelve_" + "_".join(map(str, sizes)), *parts))
    found = trained(schedules, tmp_path)
    assert {run: content == last_checkpoint(exact) for run, content in found.items()} == dict.fromkeys(found, True)
