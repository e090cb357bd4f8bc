import pytest
import torch
from torch import nn

from pipeline.config import ConfigError
from pretrain.virtual_workers import RunningStatistics, VirtualWorkers, share


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5, 7, 8])
def test_ranks_share_each_step_without_overlap_in_the_same_order(world_size):
    parts = [
        [list(positions) for positions in VirtualWorkers(8, 3, rank, world_size).positions(5)]
        for rank in range(world_size)
    ]
    assert [p for part in parts for microbatch in part for p in microbatch] == list(range(5 * 24, 6 * 24))
    assert all(len(microbatch) == 3 for part in parts for microbatch in part)


@pytest.mark.parametrize("world_size", range(1, 9))
def test_no_rank_has_over_one_worker_more_than_another_and_unequal_shares_are_said(world_size):
    ranks = [VirtualWorkers(8, 3, rank, world_size) for rank in range(world_size)]
    sizes = [len(rank.mine) for rank in ranks]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) == (8 % world_size != 0)
    expected = f"{world_size} processes share 8 virtual workers unevenly: {', '.join(map(str, sizes))}; the slowest"
    assert ranks[0].imbalance.startswith(expected) if 8 % world_size else ranks[0].imbalance == ""


def test_the_shares_of_many_ranks_are_not_listed_one_by_one():
    assert "48 processes share 128 virtual workers unevenly: 2 or 3 each" in VirtualWorkers(128, 16, 0, 48).imbalance


def test_a_world_with_processes_that_would_be_idle_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match=r"9 processes.*virtual_workers = 8.*start at most 8"):
        VirtualWorkers(8, 3, 0, 9)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
def test_running_statistics_are_the_average_over_workers_that_each_keep_their_own(num_ranks):
    torch.manual_seed(0)
    num_workers, steps = 4, 3
    inputs = torch.randn(steps, num_workers, 6, 2, 3, 3) * 2 + 1
    own = [nn.BatchNorm2d(2) for _ in range(num_workers)]  # the definition
    for step in range(steps):
        for worker, norm in enumerate(own):
            norm(inputs[step, worker])
    ranks = [nn.BatchNorm2d(2) for _ in range(num_ranks)]
    statistics = [RunningStatistics(norm) for norm in ranks]
    for step in range(steps):
        collected = torch.zeros(num_ranks, statistics[0].numel())
        for rank, (norm, kept) in enumerate(zip(ranks, statistics, strict=True)):
            kept.begin()
            for worker in share(num_workers, rank, num_ranks):
                norm(inputs[step, worker])
                kept.collect(collected[rank])
        for kept in statistics:
            kept.finish(collected.sum(0) / num_workers)
    for norm in ranks:
        torch.testing.assert_close(norm.running_mean, torch.stack([n.running_mean for n in own]).mean(0))
        torch.testing.assert_close(norm.running_var, torch.stack([n.running_var for n in own]).mean(0))
        assert norm.num_batches_tracked == steps
        assert norm.momentum == 0.1
