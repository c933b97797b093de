"""Which device a rank takes."""

import pytest

from training.distributed.env import check_apart, device_index
from training.errors import ConfigError

GPUS = ["GPU-a", "GPU-b", "GPU-c"]


def test_a_rank_takes_the_gpu_of_its_local_number():
    assert [device_index("auto", rank, 8) for rank in range(8)] == list(range(8))


def test_a_rank_that_sees_one_gpu_takes_it():
    """srun --gpus-per-task=1: local rank 3 sees its own GPU as number 0, and was refused."""
    assert [device_index("auto", rank, 1) for rank in range(8)] == [0] * 8


def test_more_ranks_than_gpus_are_refused():
    with pytest.raises(ConfigError, match=r"--device cuda: .* for local rank 2 \(found: 2\)"):
        device_index("cuda", 2, 2)
    with pytest.raises(ConfigError, match=r"for local rank 0 \(found: 0\)"):
        device_index("cuda", 0, 0)


def test_two_ranks_on_one_gpu_are_refused():
    """torchrun --nproc-per-node=2 on a machine with one GPU: each sees one."""
    with pytest.raises(ConfigError, match=r"ranks 1 and 3 have the same GPU \(GPU-b\)"):
        check_apart([*GPUS, "GPU-b"])
    check_apart(GPUS)
    check_apart(["", ""])  # processors
