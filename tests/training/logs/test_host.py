"""Facts of the host: what the system tells, null where it does not, and nothing that names the machine."""

import json
import os
import platform
import time
from types import SimpleNamespace

import pytest
from tiny_run import CPU, events, train

from dawn import read_run
from training.logs import host as host_module
from training.logs.environment import hardware
from training.logs.host import (
    StartWatch,
    Usage,
    busy_seconds,
    host_facts,
    host_id,
    kept_id,
    nvml_facts,
    others_load,
    usage,
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DAWN_HOST_ID")
    return tmp_path


def test_the_host_id_is_random_and_kept(cache):
    first = host_id()
    assert len(first) == 16 and int(first, 16) >= 0 and host_id() == first
    (file,) = (cache / "dawn-harness").iterdir()
    assert file.read_text() == first and platform.node() not in file.name
    file.unlink()
    assert host_id() != first


def test_machines_that_share_a_home_folder_have_ids_of_their_own(cache):
    assert kept_id(cache / "host-one") != kept_id(cache / "host-two")


def test_the_host_id_can_be_given_and_switched_off(cache, monkeypatch):
    monkeypatch.setenv("DAWN_HOST_ID", "rack-7.b")
    assert host_id() == "rack-7.b"
    monkeypatch.setenv("DAWN_HOST_ID", "off")
    assert host_id() is None and not list(cache.iterdir())


def test_without_a_cache_folder_there_is_no_host_id(cache, monkeypatch):
    (cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    assert host_id() is None


def test_a_host_id_that_is_none_is_refused_before_anything_is_written(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DAWN_HOST_ID", "my host")
    assert train(toy, tmp_path / "run") == 2
    assert "DAWN_HOST_ID='my host': use up to 64 letters" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_facts_are_json_and_name_nobody(cache):
    text = json.dumps(host_facts(), allow_nan=False)
    assert platform.node() not in text or len(platform.node()) < 4
    assert set(json.loads(text)) == {
        "id", "cpu", "cpu_flags", "cpu_mhz", "load_1min", "machine_cores", "cpu_seconds", "quota_throttled_seconds",
        "cpu_thermal_events",
    }  # fmt: skip


def test_a_system_that_tells_nothing_gives_nulls(cache, monkeypatch):
    monkeypatch.setattr(host_module, "SYSTEM", cache)
    facts = host_facts()
    assert [facts[name] for name in ("cpu_mhz", "load_1min", "cpu_seconds", "quota_throttled_seconds")] == [None] * 4
    assert facts["cpu_flags"] == [] and usage().asleep is None and usage().busy == {}


FILES = {
    "proc/loadavg": "1.25 0.50 0.25 2/300 4711\n",
    "proc/cpuinfo": "flags\t\t: fpu avx2 amx_bf16 avx512_bf16\ncpu MHz\t\t: 1000.0\n\ncpu MHz\t\t: 3000.0\n",
    "proc/stat": "cpu  100 0 50 800 0 0 0 50 0 0\ncpu0 70 0 20 400 0 5 5 50 0 0\nintr 1\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 7\nnr_throttled 3\nthrottled_usec 2500000\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
}


def test_the_files_of_a_system_are_read_as_their_manuals_say(cache, monkeypatch):
    for name, text in FILES.items():
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text(text)
    monkeypatch.setattr(host_module, "SYSTEM", cache)
    facts, second = host_facts(), os.sysconf("SC_CLK_TCK")
    assert (facts["cpu_flags"], facts["cpu_mhz"], facts["load_1min"]) == (
        ["avx2", "avx512_bf16", "amx_bf16"],
        2000,
        1.25,
    )
    assert facts["cpu_seconds"] == {"passed": 1000 / second, "stolen": 50 / second}
    assert (facts["quota_throttled_seconds"], facts["cpu_thermal_events"]) == (2.5, 7)
    assert busy_seconds() == [(0, 100 / second)]


def slept_at_work(seconds: float) -> float:
    """Seconds that count as asleep while this process works for `seconds`."""
    before = usage()
    while time.process_time() - before.own < seconds:
        pass
    return usage().asleep - before.asleep


def test_time_asleep_is_seen_and_time_at_work_is_not():
    """What a hypervisor takes away may count as asleep: the least of five."""
    before = usage()
    if before.asleep is None:
        pytest.skip("this system does not tell how long a process slept")
    time.sleep(0.2)
    slept = usage().asleep - before.asleep
    assert slept > 0.15 and min(slept_at_work(0.2) for _ in range(5)) < 0.15


def rank(own: float, busy: float, cores=(0, 1), wall: float = 10.0) -> dict:
    """One that computed for `own` seconds while each core was busy for `busy`."""
    return {
        "before": Usage(0.0, 5.0, 0.0, dict.fromkeys(cores, 100.0)),
        "now": Usage(wall, 5.0 + own, 0.0, dict.fromkeys(cores, 100.0 + busy)),
    }


def test_the_load_of_others_is_without_that_of_the_ranks_themselves():
    assert others_load([rank(own=10, busy=5)]) == 0
    assert others_load([rank(own=0, busy=5)]) == 0.5
    assert others_load([rank(own=4, busy=5), rank(own=4, busy=5)]) == pytest.approx(0.1)
    assert others_load([rank(own=4, busy=5, cores=(0,)), rank(own=4, busy=5, cores=(1,))]) == pytest.approx(0.1)
    assert others_load([rank(own=0, busy=0.3, wall=0.3)]) is None  # too short to count hundredths of a second


def group_of(*machines: str):
    """An Env of ranks on these machines, as the gathering sees them."""

    def gather(own):
        return [own | {"machine": machine} for machine in machines]

    return SimpleNamespace(device=CPU.device, world_size=len(machines), group=SimpleNamespace(gather=gather))


@pytest.mark.parametrize(("machines", "count"), [("a", 1), ("aa", 1), ("aabb", 2)])
def test_processes_on_one_processor_are_one_device(machines, count):
    env = group_of(*machines)
    hosts = StartWatch(from_process_start=False).hosts(env)
    assert [host["processes"] for host in hosts.facts] == [machines.count(name) for name in sorted(set(machines))]
    facts = hardware(env, hosts.devices, len(hosts.facts))
    assert (facts["count"], facts["machines"], facts["processes"]) == (count, count, len(machines))


class NvmlError(Exception):
    pass


def asked(value):
    return lambda *arguments: value


def test_facts_of_a_gpu_and_null_for_what_it_does_not_tell():
    def refused(*arguments):
        raise NvmlError

    nvml = SimpleNamespace(
        NVMLError=NvmlError, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2, NVML_TEMPERATURE_GPU=0, NVML_PERF_POLICY_THERMAL=1,
        NVML_PERF_POLICY_POWER=0, nvmlDeviceGetHandleByUUID=asked("card"), nvmlDeviceGetName=asked(b"NVIDIA H100"),
        nvmlSystemGetDriverVersion=asked("580.1"), nvmlDeviceGetEnforcedPowerLimit=asked(350_000),
        nvmlDeviceGetPowerManagementDefaultLimit=asked(700_000), nvmlDeviceGetClockInfo=lambda card, kind: 100 * kind,
        nvmlDeviceGetMaxClockInfo=asked(1980), nvmlDeviceGetTemperature=asked(41),
        nvmlDeviceGetCurrentClocksThrottleReasons=asked(0x44),
        nvmlDeviceGetViolationStatus=lambda card, policy: (
            SimpleNamespace(violationTime=2_500_000_000) if policy else refused()
        ),
    )  # fmt: skip
    assert nvml_facts(nvml, "GPU-1") == {
        "name": "NVIDIA H100", "driver": "580.1", "power_limit_watts": 350.0, "default_power_limit_watts": 700.0,
        "sm_mhz": 100, "highest_sm_mhz": 1980, "memory_mhz": 200, "temperature_c": 41,
        "slowed_by": ["power cap", "thermal"], "thermal_slowdown_seconds": 2.5, "power_cap_seconds": None,
    }  # fmt: skip
    nvml.nvmlDeviceGetHandleByUUID = refused
    assert nvml_facts(nvml, "GPU-1") is None


def test_a_run_tells_of_its_host_at_the_start_and_at_the_end(toy, tmp_path):
    train(toy, tmp_path / "run", "--short-epoch")
    (start,), (stop,) = events(tmp_path / "run", "start"), events(tmp_path / "run", "stop")
    (host,) = start["hosts"]
    assert host["id"] == stop["host"]["id"] == "tests" and host["processes"] == 1
    run = read_run(tmp_path / "run")
    assert run.start.hosts == [host] and run.stop.host == stop["host"]
