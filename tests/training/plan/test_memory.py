"""A phase that does not fit into the memory is refused before a full step."""

import os

import pytest

from phases import DataPhase
from training.errors import ConfigError
from training.plan.memory import check_room, free_bytes


def test_what_is_free_is_not_more_than_there_is():
    assert 0 < free_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_batch_that_fits():
    check_room(DataPhase(0, 32, 64), 1.0, 1)


def test_a_batch_that_does_not_fit_and_the_largest_that_would():
    with pytest.raises(ConfigError, match=r"the phase at epoch 2: bs 1000000000 at 224 px needs about .* GiB") as error:
        check_room(DataPhase(2, 224, 10**9), 1e6, 4)
    batch = int(str(error.value).split("Use 'bs': ")[1].split()[0])
    assert batch % 4 == 0 and 0 < batch * 1e6 < free_bytes() * 1.5


def test_not_even_one_image_fits():
    with pytest.raises(ConfigError, match="not even one image fits"):
        check_room(DataPhase(0, 224, 8), 1e15, 1)
