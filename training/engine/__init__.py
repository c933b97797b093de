"""The training loop and what it holds: step, state, precision, optimisers, validation, checkpoints, warm-up."""

__all__ = [
    "checkpoint",
    "evaluate",
    "faults",
    "near_ties",
    "optimizers",
    "precision",
    "state",
    "step",
    "trainer",
    "warmup",
]
