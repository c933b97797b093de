"""timm's Muon, whose Newton-Schulz steps may be made in fp32.

timm makes them in bf16, as the source does (K. Jordan, 2024): right for a GPU. A processor without instructions for
bf16 multiplies such matrices at a seventh of its rate in fp32: a step of imagenette-5 took 28 s on two AVX2 cores.
"""

import contextlib
import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from timm.optim import Muon as TimmMuon


class Muon(TimmMuon):
    def __init__(self, groups: list[dict], dtype: torch.dtype, **settings: Any) -> None:
        """`dtype`: of the Newton-Schulz steps; `settings`: timm's."""
        super().__init__(groups, **settings)
        self.dtype = dtype

    def step(self, closure: Any = None) -> Any:
        with newton_schulz_in(self.dtype):
            return super().step(closure)


@contextlib.contextmanager
def newton_schulz_in(dtype: torch.dtype) -> Iterator[None]:
    """timm's function has the format as an argument that its optimizer does not hand on."""
    library = importlib.import_module("timm.optim.muon")
    original = library.zeropower_via_newtonschulz
    library.zeropower_via_newtonschulz = partial(original, dtype=dtype)
    try:
        yield
    finally:
        library.zeropower_via_newtonschulz = original
