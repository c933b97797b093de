"""How good weights are: those of a run, of a file or of a library, measured in every way of validation."""

__all__ = ["command", "measure", "trained", "weight_files"]
