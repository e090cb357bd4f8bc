"""How many threads a training process takes."""

import pytest

from pretrain import distributed


@pytest.mark.parametrize(
    ("processes", "said", "threads"),
    [
        (1, None, 16),
        (1, "1", 1),
        (1, "3", 3),
        (1, "64", 16),
        (1, "4,2", 4),
        (1, "0", 16),
        (1, "many", 16),
        (4, None, 4),
        (4, "1", 4),  # what torchrun says where nothing was said
        (4, "2", 2),
        (4, "16", 4),
        (32, "2", 1),
    ],
)
def test_threads_are_a_share_of_the_cores_or_fewer_where_that_was_said(processes, said, threads, monkeypatch):
    monkeypatch.setattr(distributed, "available_cores", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert distributed.num_threads(processes) == threads
