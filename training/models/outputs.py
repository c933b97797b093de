"""What a network returns: logits alone, or named outputs. The names are in this file alone."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

LOGITS = "logits"
AUX_LOGITS = "aux_logits"  # as a beginning: GoogLeNet has aux_logits1 and aux_logits2


def named(output: Any) -> dict[str, Any]:
    """A network's output by name. A tensor is its logits; torchvision's GoogLeNetOutputs and InceptionOutputs are
    named tuples. Raises: TypeError for anything else."""
    if isinstance(output, Tensor):
        return {LOGITS: output}
    if isinstance(output, Mapping):
        return dict(output)
    if hasattr(output, "_asdict"):
        return output._asdict()
    raise TypeError(f"{type(output).__name__}, neither a tensor nor a dictionary with {LOGITS!r}")


def logits_of(output: Any) -> Tensor:
    """(B, classes). Raises: TypeError for an output without logits."""
    logits = named(output).get(LOGITS)
    if not isinstance(logits, Tensor):
        raise TypeError(f"a dictionary without a tensor {LOGITS!r}")
    return logits


def auxiliary_logits(output: Any) -> list[Tensor]:
    """(B, classes) of every auxiliary head that took part."""
    found = [value for name, value in named(output).items() if name.startswith(AUX_LOGITS)]
    heads = [head for value in found for head in (value if isinstance(value, list | tuple) else [value])]
    return [head for head in heads if isinstance(head, Tensor)]
