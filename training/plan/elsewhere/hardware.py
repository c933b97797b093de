"""Hardware that is not here: what its makers say of it. No torch.

Peaks are those of dense arithmetic: data sheets of NVIDIA print twice as much for sparse matrices. fp32 is without
TF32, which this program switches off.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from training.errors import ConfigError

TABLE_DATE = "2026-11-26"  # when the table was written


@dataclass(frozen=True)
class Chip:
    name: str
    in_logs: str  # part of the name that its driver tells
    tera_flops: Mapping[str, float]  # by precision, 10^12 a second
    gigabytes_per_second: float  # of its memory
    gigabytes: float
    source: str


@dataclass(frozen=True)
class Price:
    dollars_per_hour: float
    date: str
    source: str


@dataclass(frozen=True)
class Hardware:
    name: str
    chip: Chip
    count: int
    price: Price | None = None  # None: no price with a source that still holds

    def peak(self, precision: str) -> float:
        """FLOP/s of one chip."""
        return self.chip.tera_flops[precision] * 1e12

    def precision_of(self, wanted: str) -> str:
        """That a run would take; `auto` as in training.engine.precision. Raises: ConfigError."""
        known = self.chip.tera_flops
        chosen = ("bf16" if "bf16" in known else "fp16") if wanted == "auto" else wanted
        if chosen not in known:
            raise ConfigError(f"--precision {wanted}: {self.chip.name} has {', '.join(known)}")
        return chosen


V100 = Chip(
    "NVIDIA V100 SXM2 16 GB", "V100-SXM2", {"fp32": 15.7, "fp16": 125.0}, 900.0, 16.0, "NVIDIA V100 data sheet, 2020"
)
A100 = Chip(
    "NVIDIA A100 SXM 80 GB",
    "A100-SXM",
    {"fp32": 19.5, "fp16": 312.0, "bf16": 312.0},
    2039.0,
    80.0,
    "NVIDIA A100 data sheet, 2021",
)
H100 = Chip(
    "NVIDIA H100 SXM 80 GB",
    "H100 80GB HBM3",
    {"fp32": 67.0, "fp16": 989.5, "bf16": 989.5},
    3350.0,
    80.0,
    "NVIDIA H100 data sheet, 2024",
)
H200 = Chip(
    "NVIDIA H200 SXM 141 GB",
    "H200",
    {"fp32": 67.0, "fp16": 989.5, "bf16": 989.5},
    4800.0,
    141.0,
    "NVIDIA H200 data sheet, 2024",
)
L4 = Chip(
    "NVIDIA L4", "NVIDIA L4", {"fp32": 30.3, "fp16": 121.0, "bf16": 121.0}, 300.0, 24.0, "NVIDIA L4 data sheet, 2023"
)
RTX4090 = Chip(
    "NVIDIA GeForce RTX 4090",
    "RTX 4090",
    {"fp32": 82.6, "fp16": 165.2, "bf16": 165.2},
    1008.0,
    24.0,
    "NVIDIA Ada GPU architecture, appendix A, 2023",
)
DAWN = "AWS on demand, as an entry in dawn-bench-entries states it (dawn/reports/prices.json)"
TABLE = (
    Hardware("h200x8", H200, 8),
    Hardware("h200x1", H200, 1),
    Hardware("h100x8", H100, 8),
    Hardware("h100x1", H100, 1),
    Hardware("a100x8", A100, 8),
    Hardware("a100x1", A100, 1),
    Hardware("v100x8", V100, 8, Price(24.48, "2018-09-07", DAWN)),
    Hardware("v100x1", V100, 1, Price(3.06, "2018-11-06", DAWN)),
    Hardware("l4x1", L4, 1),
    Hardware("rtx4090x1", RTX4090, 1),
)


def hardware_named(name: str) -> Hardware:
    """Raises: ConfigError that says what there is."""
    for item in TABLE:
        if item.name == name:
            return item
    raise ConfigError(f"--hardware {name:.40}: not in the table, which has {', '.join(item.name for item in TABLE)}")


def chip_of(logged: str) -> Chip | None:
    """The one whose driver tells such a name."""
    return next((item.chip for item in TABLE if item.chip.in_logs in logged), None)
