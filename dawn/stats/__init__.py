"""Statistics over many runs: estimates, survival, a study of one recipe, a comparison of two."""

__all__ = ["compare", "runs", "study"]
