"""Reports of one run: summary, chart, cost, MLPerf log."""

__all__ = ["chart", "cost", "mlperf", "summary"]
