"""Scripts of airbench on a CPU in bf16 (benchmarks/airbench_peer.py), shown with small scripts of their form."""

import pytest
import torch
from benchmark_scripts import BENCHMARKS

LOADER = """
import torch
from torch import nn


class CifarLoader:
    shuffle = True

    def __iter__(self):
        yield from [torch.ones(4, 12)] * 2
"""
TRAINS = """
class CifarNet(nn.Linear):
    def __init__(self):
        super().__init__(12, 10)


def main(run, model):
    outputs = []
    for images in CifarLoader():
        outputs.append(model(images))
        outputs[-1].sum().backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= weight.grad
    return outputs  # total_train_steps: 2
"""
WHITENS = """
def main(run):  # total_train_steps: none
    columns = torch.rand(5000, 1, generator=torch.Generator().manual_seed(0))
    patches_flat = columns + 0.01 * torch.randn(5000, 12, generator=torch.Generator().manual_seed(1))
    est_patch_covariance = (patches_flat.T @ patches_flat) / len(patches_flat)
    return torch.linalg.eigvalsh(est_patch_covariance)


hyp = {"opt": {}}
"""


@pytest.fixture
def run(toy, tmp_path, monkeypatch):
    """What the main of a script returns."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from airbench_peer import Peer

    def result(text: str):
        path = tmp_path / "airbench_small.py"
        path.write_text(LOADER + text)
        return Peer(path, str(toy), torch.device("cpu"), "bf16").run(lambda batches: batches)

    return result


def test_autocast_sees_the_updates_of_weights(run):
    """It kept the copies of the first step for the whole run, and the network never learned."""
    first, second = run(TRAINS)
    assert first.dtype == torch.bfloat16
    torch.testing.assert_close(
        first - second, torch.full((4, 10), 4.0 * (12 + 1)), check_dtype=False, rtol=0.02, atol=0
    )


def test_whitening_is_computed_in_fp32(run):
    """In bf16 the smallest eigenvalues were below zero, and the filters of the first layer NaN."""
    values = run(WHITENS)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values[:-1], torch.full((11,), 1e-4), rtol=0.1, atol=0)
