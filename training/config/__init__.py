"""The settings of a run: the Config, its checks, the command line, the saved config.json and the resolved schedule."""

__all__ = ["config", "flag_table", "loaders", "own_code", "parser", "saved", "schedule"]
