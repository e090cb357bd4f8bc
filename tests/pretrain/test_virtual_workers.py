import pytest
import torch
from torch import nn

from pipeline.config import ConfigError
from pretrain.virtual_workers import RunningStatistics, VirtualWorkers


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_ranks_share_each_step_without_overlap_in_the_same_order(world_size):
    parts = [
        [list(positions) for positions in VirtualWorkers(8, 3, rank, world_size).positions(5)]
        for rank in range(world_size)
    ]
    assert [p for part in parts for microbatch in part for p in microbatch] == list(range(5 * 24, 6 * 24))
    assert all(len(microbatch) == 3 for part in parts for microbatch in part)


def test_a_world_that_does_not_divide_the_workers_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match=r"3 processes.*virtual_workers = 8.*start 1, 2, 4, 8 processes"):
        VirtualWorkers(8, 3, 0, 3)


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
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
    share = num_workers // num_ranks
    for step in range(steps):
        packed = torch.zeros(num_ranks, statistics[0].numel())
        for rank, (norm, kept) in enumerate(zip(ranks, statistics, strict=True)):
            kept.begin()
            for worker in range(rank * share, (rank + 1) * share):
                kept.next_microbatch()
                norm(inputs[step, worker])
            kept.pack(packed[rank], share / num_workers)
        for kept in statistics:
            kept.finish(packed.sum(0))
    for norm in ranks:
        torch.testing.assert_close(norm.running_mean, torch.stack([n.running_mean for n in own]).mean(0))
        torch.testing.assert_close(norm.running_var, torch.stack([n.running_var for n in own]).mean(0))
        assert norm.num_batches_tracked == steps
        assert norm.momentum == 0.1
