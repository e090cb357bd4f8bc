import pytest
import torch

from pretrain.data import Batch
from pretrain.prefetch import DEPTH, on_device


def batches(num: int, pin: bool = False) -> list[Batch]:
    clips = [torch.full((2, 1, 4, 4, 3), number, dtype=torch.uint8) for number in range(num)]
    return [
        Batch(
            clips_BTHWC=pixels.pin_memory() if pin else pixels,
            labels=torch.tensor([number, 0]),
            positions=torch.tensor([number, number]),
            samples=[number, number],
            replaced=[],
        )
        for number, pixels in enumerate(clips)
    ]


def test_on_a_cpu_batches_pass_through():
    given = iter(batches(3))
    assert on_device(given, torch.device("cpu")) is given


@pytest.mark.gpu
@pytest.mark.parametrize("num", [0, 1, DEPTH, DEPTH + 3])
def test_on_a_gpu_the_same_batches_come_in_order(num):
    given = batches(num, pin=True)
    found = list(on_device(iter(given), torch.device("cuda")))
    assert len(found) == num
    for batch, expected in zip(found, given, strict=True):
        assert batch.clips_BTHWC.device.type == batch.labels.device.type == "cuda"
        assert torch.equal(batch.clips_BTHWC.cpu(), expected.clips_BTHWC)
        assert torch.equal(batch.labels.cpu(), expected.labels)
        assert batch.positions is expected.positions
