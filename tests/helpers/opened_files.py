"""Which files of some folders are opened, told by the kernel; and the loaders that it is asked of."""

import ctypes
import os
import struct
from pathlib import Path

import pytest

from training.data.dataset import has_dali

IN_OPEN, IN_ISDIR = 0x20, 0x40000000  # inotify(7)
EVENT = struct.Struct("iIII")
SLOW = pytest.mark.slow
LOADERS = {
    "memory": [],
    "packed in a map": pytest.param(["--loader", "packed", "--packed-in", "map"], marks=SLOW),
    "packed in ram": ["--loader", "packed", "--packed-in", "ram"],
    "packed on the device": pytest.param(["--loader", "packed", "--packed-in", "device"], marks=SLOW),
    "threads": pytest.param(["--loader", "threads"], marks=SLOW),
    "processes": ["--loader", "processes"],
    "torchvision": ["--loader", "torchvision"],
    "dali": pytest.param(["--loader", "dali"], marks=pytest.mark.skipif(not has_dali(), reason="needs DALI")),
}
FEW = {
    name: given if name in ("memory", "packed in ram") else pytest.param(*getattr(given, "values", [given]), marks=SLOW)
    for name, given in LOADERS.items()
    if not (name == "dali" and not has_dali())
}  # two of them in the default tests


class OpenedFiles:
    """Of some folders, by inotify: a file that another process opens counts as well."""

    def __init__(self, folders: list[Path]) -> None:
        system = ctypes.CDLL(None, use_errno=True)
        self.queue = getattr(system, "inotify_init1", lambda flags: -1)(os.O_NONBLOCK)
        if self.queue < 0:
            pytest.skip("this system has no inotify")
        self.folders = {system.inotify_add_watch(self.queue, os.fsencode(f), IN_OPEN): f for f in folders}
        assert min(self.folders) >= 0

    def names(self) -> set[Path]:
        """Those opened since the last call."""
        try:
            data = os.read(self.queue, 1_000_000)
        except BlockingIOError:
            return set()
        found, place = set(), 0
        while place < len(data):
            watch, mask, _, length = EVENT.unpack_from(data, place)
            name = data[place + EVENT.size : place + EVENT.size + length].rstrip(b"\0")
            place += EVENT.size + length
            if not mask & IN_ISDIR:
                found.add(self.folders[watch] / os.fsdecode(name))
        return found
