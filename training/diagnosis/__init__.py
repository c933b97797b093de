"""Why a run diverged: it is replayed to its bad step, which is taken apart (python -m training diagnose)."""

__all__ = ["command"]
