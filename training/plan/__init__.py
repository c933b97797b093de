"""What a schedule will cost before it runs: a few measured steps, kept in a cache, and arithmetic for the rest."""

__all__ = ["command", "forecast", "planner", "work"]
