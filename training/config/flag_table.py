"""docs/flags.md: every flag of `python -m training` as the fields of Config say it. `python -m training flags
--markdown` prints it."""

import argparse
from dataclasses import Field, fields

from training.config.config import Config

HEAD = """# Flags

```
python -m training flags --markdown > docs/flags.md
```

makes this page from the fields of `Config`; a test compares it with the code. A recipe sets some of them, and a flag on
the command line goes on top. A switch has two forms, `--x` and `--no-x`. Flags marked with * define the experiment: a
run that is resumed must have them as they were.

| flag | default | what it sets |
|---|---|---|
"""


def flags_markdown() -> str:
    shown = (item for item in fields(Config) if item.name != "data" and item.metadata["help"] != argparse.SUPPRESS)
    return HEAD + "\n".join(row(item) for item in shown)


def row(item: Field) -> str:
    names = (f"--{item.name.replace('_', '-')}", *item.metadata["flags"])
    default = {True: "on", False: "off"}[item.default] if isinstance(item.default, bool) else str(item.default)
    text = item.metadata["help"].replace("|", "\\|")
    choices = f" One of {', '.join(f'`{choice}`' for choice in item.metadata['choices'])}."
    mark = " *" if item.metadata["training"] else ""
    flags = ", ".join(f"`{name}`" for name in names)
    return f"| {flags}{mark} | {default} | {text}.{choices if item.metadata['choices'] else ''} |"
