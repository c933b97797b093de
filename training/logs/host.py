"""What the host of a run is and how busy it is: facts that tell a faster program from a luckier machine.

Everything here is read from /proc, /sys and NVML; what a system does not tell is null. Nothing that names a machine or
a person leaves it: no hostname, no address, no serial number.
"""

import contextlib
import hashlib
import os
import platform
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from dawn import process_start_ns
from training.distributed.env import Env
from training.errors import ConfigError
from training.logs.environment import gpu_uuid
from training.logs.machine import cpu_name, nvml_of

ID_VARIABLE = "DAWN_HOST_ID"
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Of the flags in /proc/cpuinfo those that decide how fast matrices are multiplied.
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")
LEAST_WINDOW = 0.5  # seconds over which the load is measured: the system counts in hundredths
# nvml.h: bits of the reasons for which a GPU's clocks are below what was asked for
REASONS = {"power cap": 0x4, "hardware slowdown": 0x8, "thermal": 0x20 | 0x40, "power brake": 0x80}
NS = 1e9
SYSTEM = Path("/")


@dataclass(frozen=True)
class Usage:
    """Counters of one moment; differences of two say what happened in between. None: the system does not tell."""

    wall: float  # seconds of time.monotonic
    own: float  # CPU seconds of this process
    asleep: float | None  # seconds in which the main thread neither ran nor waited for a core
    busy: dict[int, float]  # seconds by core of the machine that this process may use


class Hosts(NamedTuple):
    """facts: of each machine, in the order of its first rank; devices: GPUs of all, or machines where CPUs train; gpus:
    UUIDs of those of rank 0's machine."""

    facts: list[dict[str, Any]]
    devices: int
    gpus: list[str]


class StartWatch:
    """Made when the set-up of a run begins; all ranks."""

    def __init__(self, from_process_start: bool) -> None:
        """`from_process_start`: the set-up began with this process, so what it slept before counts, too."""
        self.before = usage()
        self.asleep_before = 0.0 if from_process_start else self.before.asleep
        host_id()  # a bad value is told before anything is done

    def hosts(self, env: Env) -> Hosts:
        """Call it just before the clock starts; all ranks."""
        uuid = gpu_uuid(env)
        own = {"machine": machine_key(), "before": self.before, "now": usage(), "facts": host_facts()}
        own |= {"uuid": uuid, "gpu": uuid and gpu_facts(uuid), "asleep_before": self.asleep_before}
        ranks = env.group.gather(own)
        machines = {rank["machine"]: [r for r in ranks if r["machine"] == rank["machine"]] for rank in ranks}
        here = dict.fromkeys(rank["uuid"] for rank in machines[ranks[0]["machine"]] if rank["uuid"])
        uuids = {rank["uuid"] for rank in ranks if rank["uuid"]}
        return Hosts([of_machine(rows) for rows in machines.values()], len(uuids) or len(machines), list(here))


def of_machine(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One machine's facts out of those of its ranks."""
    gpus = {row["uuid"]: row["gpu"] for row in rows if row["gpu"]}
    # The rank that slept least: the others may have waited for it.
    idle = [row["now"].asleep - row["asleep_before"] for row in rows if row["now"].asleep is not None]
    measured = {"processes": len(rows), "others_load": others_load(rows)}
    measured |= {"idle_seconds": round(min(idle), 3) if idle else None}
    return rows[0]["facts"] | measured | ({"gpus": list(gpus.values())} if gpus else {})


def others_load(rows: list[dict[str, Any]]) -> float | None:
    """Share of the cores that other programs kept busy during the set-up; None where that took no time to speak of."""
    before, now = ({c: s for row in rows for c, s in row[name].busy.items()} for name in ("before", "now"))
    passed = max(row["now"].wall - row["before"].wall for row in rows)
    cores = before.keys() & now.keys()
    if not cores or passed < LEAST_WINDOW:
        return None
    own = sum(row["now"].own - row["before"].own for row in rows)
    others = sum(now[core] - before[core] for core in cores) - own
    return round(max(0.0, others / passed / len(cores)), 3)


def host_state(uuids: list[str]) -> dict[str, Any]:
    """What may have changed when a run ends: rank 0's machine and its GPUs."""
    gpus = [facts for uuid in uuids if (facts := gpu_facts(uuid))]
    return host_facts() | ({"gpus": gpus} if gpus else {})


def host_facts() -> dict[str, Any]:
    """What every machine has."""
    mhz = cpuinfo("cpu MHz")
    flags = set(next(iter(cpuinfo("flags") or cpuinfo("Features")), "").split())
    load = text_of("proc/loadavg").split()
    return {
        "id": host_id(),
        "cpu": cpu_name(),
        "cpu_flags": [name for name in FLAGS if name in flags],
        "cpu_mhz": round(sum(map(float, mhz)) / len(mhz), 1) if mhz else None,
        "load_1min": float(load[0]) if load else None,
        "machine_cores": os.cpu_count(),
        "cpu_seconds": cpu_seconds(),
        "quota_throttled_seconds": quota_throttled_seconds(),
        "cpu_thermal_events": cpu_thermal_events(),
    }


def host_id() -> str | None:
    """A random word that tells hosts apart, kept in the user's cache folder; None where it is switched off or cannot be
    kept. Raises: ConfigError for a DAWN_HOST_ID that is none."""
    given = os.environ.get(ID_VARIABLE, "")
    if given == "off":
        return None
    if given:
        if not ID.fullmatch(given):
            raise ConfigError(
                f"environment variable {ID_VARIABLE}={given!r:.80}: use up to 64 letters, digits and . _ -, or 'off'"
            )
        return given
    try:
        return kept_id(id_file())
    except (OSError, RuntimeError):  # no home folder, or a read-only one
        return None


def id_file() -> Path:
    """Its name tells machines apart that share a home folder; it is made of what this machine is called, and stays."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    named = text_of("etc/machine-id") or platform.node()
    return Path(cache) / "dawn-harness" / f"host-{hashlib.sha256(named.encode()).hexdigest()[:16]}"


def kept_id(path: Path) -> str | None:
    """What the file holds, made when it is not there: several ranks may begin at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        whole = path.with_name(f"{path.name}.{os.getpid()}")
        whole.write_text(secrets.token_hex(8))
        try:
            os.link(whole, path)
        finally:
            whole.unlink()
    found = path.read_text(errors="replace").strip()
    return found if ID.fullmatch(found) else None


def machine_key() -> str:
    """Equal for processes on one machine; compared, never logged."""
    return text_of("proc/sys/kernel/random/boot_id") or platform.node()


def usage() -> Usage:
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    return Usage(
        time.monotonic(), time.process_time(), seconds_asleep(), {c: s for c, s in busy_seconds() if c in cores}
    )


def seconds_asleep() -> float | None:
    """Of the main thread since it began: neither running nor waiting for a core (/proc/self/schedstat, in ns)."""
    started, fields = process_start_ns(), text_of("proc/self/schedstat").split()
    if started is None or len(fields) != 3:
        return None
    ran, waited = int(fields[0]), int(fields[1])
    return max(0.0, (time.monotonic_ns() - started - ran - waited) / NS)


def busy_seconds() -> list[tuple[int, float]]:
    """(core, seconds) in which a core worked for any program of this system: user, nice, system, interrupts."""
    lines = [line.split() for line in text_of("proc/stat").splitlines()]
    cores = [line for line in lines if re.fullmatch(r"cpu\d+", line[0])]
    return [(int(line[0][3:]), ticks(line[1], line[2], line[3], line[6], line[7])) for line in cores if len(line) > 8]


def cpu_seconds() -> dict[str, float] | None:
    """Of all cores together: passed (busy and idle), and stolen by other guests of the same physical machine."""
    fields = text_of("proc/stat").split("\n", 1)[0].split()[1:9]
    return {"passed": ticks(*fields), "stolen": ticks(fields[7])} if len(fields) == 8 else None


def ticks(*counts: str) -> float:
    return sum(map(int, counts)) / os.sysconf("SC_CLK_TCK")


def quota_throttled_seconds() -> float | None:
    """Time for which the CPU quota of this container held its threads back (cgroup v2, else v1)."""
    for place, name, unit in (("cpu.stat", "throttled_usec", 1e6), ("cpu/cpu.stat", "throttled_time", NS)):
        found = re.search(rf"^{name} (\d+)$", text_of(f"sys/fs/cgroup/{place}"), re.MULTILINE)
        if found:
            return int(found[1]) / unit
    return None


def cpu_thermal_events() -> int | None:
    """How often cores were slowed down because they were hot, since the machine was started (Intel)."""
    counts = (SYSTEM / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    found = [int(text) for path in counts if (text := text_of(path.relative_to(SYSTEM)).strip()).isdigit()]
    return sum(found) if found else None


def cpuinfo(name: str) -> list[str]:
    """The values of a field, of each core."""
    return re.findall(rf"^{re.escape(name)}\s*:\s*(.*)$", text_of("proc/cpuinfo"), re.MULTILINE)


def text_of(path: str | Path) -> str:
    """Of a file of the system; empty where there is none."""
    try:
        return (SYSTEM / path).read_text(errors="replace")
    except OSError:
        return ""


def gpu_facts(uuid: str) -> dict[str, Any] | None:
    """Of the GPU now; None without NVML."""
    nvml = nvml_of()
    return nvml_facts(nvml, uuid) if nvml else None


def nvml_facts(nvml: ModuleType, uuid: str) -> dict[str, Any] | None:
    """`nvml`: the module pynvml, initialised."""

    def ask(function: str, *arguments: Any, scale: float = 1) -> Any:
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            value = getattr(nvml, function)(*arguments)
            return value / scale if scale != 1 else value
        return None

    card = ask("nvmlDeviceGetHandleByUUID", uuid)
    if card is None:
        return None
    reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons", card)
    return {
        "name": plain_text(ask("nvmlDeviceGetName", card)),
        "driver": plain_text(ask("nvmlSystemGetDriverVersion")),
        "power_limit_watts": ask("nvmlDeviceGetEnforcedPowerLimit", card, scale=1000),
        "default_power_limit_watts": ask("nvmlDeviceGetPowerManagementDefaultLimit", card, scale=1000),
        "sm_mhz": ask("nvmlDeviceGetClockInfo", card, nvml.NVML_CLOCK_SM),
        "highest_sm_mhz": ask("nvmlDeviceGetMaxClockInfo", card, nvml.NVML_CLOCK_SM),
        "memory_mhz": ask("nvmlDeviceGetClockInfo", card, nvml.NVML_CLOCK_MEM),
        "temperature_c": ask("nvmlDeviceGetTemperature", card, nvml.NVML_TEMPERATURE_GPU),
        "slowed_by": None if reasons is None else [name for name, bits in REASONS.items() if reasons & bits],
        "thermal_slowdown_seconds": violation(ask, card, nvml.NVML_PERF_POLICY_THERMAL),
        "power_cap_seconds": violation(ask, card, nvml.NVML_PERF_POLICY_POWER),
    }


def violation(ask, card: Any, policy: int) -> float | None:
    """Seconds since the driver was loaded for which a policy held the clocks down."""
    found = ask("nvmlDeviceGetViolationStatus", card, policy)
    return None if found is None else found.violationTime / NS


def plain_text(name: str | bytes | None) -> str | None:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
