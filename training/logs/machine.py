"""The machine and the software as they can be told without torch: names, versions, the state of the code."""

import hashlib
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

SOURCES = ("training", "phases", "dawn", "data_prep")


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def resident_bytes() -> int:
    """Resident memory of this process now; where the system does not tell, its largest so far."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_resident_bytes()


def peak_resident_bytes() -> int:
    """Largest resident memory of this process; getrusage counts in KiB on Linux, in bytes on macOS."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def source_commit() -> tuple[str | None, bool]:
    """Commit of the code and whether it was changed since; (None, False) for code that no git checkout holds."""
    if not git("ls-files", "--error-unmatch", Path(__file__).name):
        return None, False
    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return commit or None, bool(changes)


def source_digest() -> str:
    """SHA-256 of this program's own source files: the same code has the same, with git or without."""
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for path in sorted(path for package in SOURCES for path in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, timeout=5
        )
        return done.stdout.strip() if done.returncode == 0 else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""


def nvml_of() -> ModuleType | None:
    """NVIDIA's management library, ready to be asked; None where there is none."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()  # counts its calls, so it may be made again
    except pynvml.NVMLError:  # no library, no driver
        return None
    return pynvml


def gpu_names() -> list[str]:
    """As the driver tells them; none without one."""
    nvml = nvml_of()
    if not nvml:
        return []
    names = [nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(n)) for n in range(nvml.nvmlDeviceGetCount())]
    return [name.decode(errors="replace") if isinstance(name, bytes) else name for name in names]
