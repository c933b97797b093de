"""One self-contained HTML document with plotly: it needs no server and no network."""

import base64
import hashlib
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from dawn.page.html import script_json, text


def document(title: str, body: str, data: dict[str, Any], styles: Iterable[str], scripts: Iterable[str]) -> str:
    """The policy allows exactly the scripts of this page, by their hashes, and nothing from anywhere else. `data`: JSON
    for the scripts, in #data."""
    code = [plotly_script(), *scripts]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in code)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {hashes}"
    elements = "".join(f"<script>{script}</script>\n" for script in code)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>\n{''.join(styles)}</style></head>\n<body>\n{body}"
        f'<script type="application/json" id="data">{script_json(data)}</script>\n{elements}</body></html>\n'
    )


def plotly_script() -> str:
    """The minified plotly.js of the Python package, whose Python code is not needed."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def asset(name: str) -> str:
    """A style or a script of this folder."""
    return files("dawn.page").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
