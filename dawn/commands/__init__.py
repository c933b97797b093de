"""The sub-commands of `python -m dawn`, one module a family, and their names."""

from dawn.commands import board, check, cost, entry, files, import_logs, mlperf, report, study
from dawn.commands.command import Command

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Command] = {
    "tsv": files.TSV,
    "entry": entry.ENTRY,
    "summary": files.SUMMARY,
    "chart": files.CHART,
    "report": report.REPORT,
    "board": board.BOARD,
    "study": study.STUDY,
    "compare": study.COMPARE,
    "import": import_logs.IMPORT,
    "check": check.CHECK,
    "cost": cost.COST,
    "mlperf": mlperf.MLPERF,
}
