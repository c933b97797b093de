"""The layouts of our own CIFAR network, by the name that --model takes. No torch: a plan from the cache is there at
once."""

from typing import NamedTuple


class Layout(NamedTuple):
    """What the blocks of a cifarnet are made of. `bn_momentum` in torch's sense: the weight of the new batch."""

    widths: tuple[int, int, int] = (64, 256, 256)  # channels of the three blocks at --width 1
    convolutions: int = 2  # of a block; the third one adds the block's first activation to its output
    bn_momentum: float = 0.4  # short runs need statistics that follow quickly
    eps: float = 1e-5  # of batch norm
    activation: str = "gelu"  # of the blocks, gelu or silu; the whitening layer's is GELU


LAYOUTS = {
    # airbench94 and airbench94_muon (K. Jordan, github.com/KellerJordan/cifar10-airbench), but for torch's eps
    "cifarnet": Layout(),
    # airbench95
    "cifarnet-95": Layout((128, 384, 384), eps=1e-12),
    # airbench96
    "cifarnet-96": Layout((128, 384, 512), convolutions=3, bn_momentum=0.1, eps=1e-12),
    # hiverge's and Fulcrum's (github.com/fulcrumresearch/cifar-10-speedrun)
    "cifarnet-fulcrum": Layout(bn_momentum=1 - 0.5566, eps=1e-12, activation="silu"),
}
