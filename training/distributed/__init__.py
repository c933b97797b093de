"""The processes of one run: who they are, how they meet, talk, fail together and end."""

__all__ = ["env", "group", "launcher", "parallel", "process"]
