"""A phase that does not fit into the memory is refused before a full step."""

import os
from dataclasses import replace

import pytest
import torch

from phases import DataPhase
from training.config.config import Config
from training.distributed.env import Env
from training.errors import ConfigError
from training.plan.fit import step_time
from training.plan.flops import counted
from training.plan.memory import check_plan, check_room, free_bytes
from training.plan.peaks import peak_bytes, peak_noted, reset_peak
from training.plan.store import Measurements, StartTime, StepTime
from training.plan.work import Training


def test_what_is_free_is_not_more_than_there_is():
    assert 0 < free_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_batch_that_fits():
    check_room(DataPhase(0, 32, 64), 1.0, 1, 100)


def test_a_batch_that_does_not_fit_and_the_largest_that_would():
    with pytest.raises(ConfigError, match=r"the phase at epoch 2: bs 1000000000 at 224 px needs about .* GiB") as error:
        check_room(DataPhase(2, 224, 10**9), 1e6, 4, free_bytes())
    batch = int(str(error.value).split("Use 'bs': ")[1].split()[0])
    assert batch % 4 == 0 and 0 < batch * 1e6 < free_bytes() * 1.5


def test_not_even_one_image_fits():
    with pytest.raises(ConfigError, match="not even one image fits"):
        check_room(DataPhase(0, 224, 8), 1e15, 1, free_bytes())


def test_what_the_process_takes_by_itself_is_no_part_of_the_batch():
    with pytest.raises(ConfigError, match=r"Use 'bs': 45 "):
        check_room(DataPhase(0, 32, 64), 1.0, 1, 100, base=50.0)


def found_on(device, peak, image, memory=10**9):
    start = StartTime(0.0, 0.0, 0.0, 0.0, "fp32", device, memory)
    step = StepTime(0.0, 1.0, 1.0, 0.0, 0.0, 3, 0.0, peak, image)
    return Measurements(start, {Training(32, 64, ""): step}, flops={(32, False): 4, (16, False): 1})


def test_a_step_from_the_cache_is_compared_with_the_memory_of_now():
    found = found_on("cpu", 10**15, 10**12)
    (step,) = found.steps.values()
    with pytest.raises(ConfigError, match=r"bs 64 at 32 px needs about 931322\.6 GiB"):
        check_plan(DataPhase(0, 32, 64), step, found, 1)
    check_plan(DataPhase(0, 32, 64), replace(step, peak_bytes=1, image_bytes=0.0), found, 1)


def test_a_gpu_has_the_memory_that_was_free_when_it_was_measured():
    found = found_on("cuda", 64_000, 900, memory=50_000)
    (step,) = found.steps.values()
    with pytest.raises(ConfigError, match=r"Use 'bs': 45 "):  # 0.95 * 50,000 less 6,400, in 900 each
        check_plan(DataPhase(0, 32, 64), step, found, 1)


def test_one_measured_point_tells_the_memory_of_other_sizes_by_its_images():
    step, is_measured = step_time(found_on("cpu", 1000 + 64 * 40, 40), Training(16, 192, ""))
    assert not is_measured and step.peak_bytes == 1000 + 192 * 10 and step.image_bytes == 10


def test_a_smaller_step_after_a_larger_one_is_counted_by_itself():
    """Freed blocks that the C library keeps counted as memory of every later point."""
    env, peaks = Env(torch.device("cpu")), []
    for blocks in (3000, 300):
        if not reset_peak(env):
            pytest.skip("this system does not reset the peak")
        held = [bytearray(100_000) for _ in range(blocks)]  # below the size that the C library maps by itself
        del held
        peaks.append(peak_bytes(env))
    assert 200e6 < peaks[0] - peaks[1] < 350e6


def test_the_peak_of_an_action_is_noted_by_itself():
    env, peaks = Env(torch.device("cpu")), []
    held = [bytearray(100_000) for _ in range(3000)]
    del held
    with peak_noted(env, peaks):
        before = peak_bytes(env)
        held = [bytearray(100_000) for _ in range(1000)]
    if not peaks:
        pytest.skip("this system does not reset the peak")
    assert len(held) == 1000 and 50e6 < peaks[0] - before < 150e6


def test_the_least_memory_of_an_image_is_what_the_forward_pass_keeps():
    _, small = counted(Config(width=0.25), 10, 16, False)
    _, large = counted(Config(width=0.25), 10, 32, False)
    assert 3 * small < large < 5 * small and small > 16 * 16 * 3 * 4
