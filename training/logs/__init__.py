"""What a run tells: console, text logs, TensorBoard, the meters behind them and the facts of the machine."""

__all__ = ["environment", "host", "logbook", "machine", "meters", "metrics"]
