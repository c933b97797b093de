"""A plan for hardware that is not here: its table, and the efficiency that is taken over."""

__all__ = ["extrapolate", "hardware", "scale"]
