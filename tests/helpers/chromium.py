"""A real browser for the tests of the page: chromium without a window, spoken to through its debugging pipe.

The protocol (chromedevtools.github.io) is JSON with a zero byte behind each message, on the file descriptors 3 (to the
browser) and 4 (from it). That needs nothing but the Debian package.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE_SECONDS = 300


def chromium_path() -> str | None:
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


class Page:
    """One tab. `errors`: uncaught exceptions and errors of the console; `requests`: every address it asked for
    but for data: ones, which hold what they ask for."""

    def __init__(self, to_browser: int, from_browser: int):
        self._to, self._from, self._buffer, self._number = to_browser, from_browser, b"", 0
        self._session: str | None = None
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one command; events that come before it are taken note of."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], PATIENCE_SECONDS)
            part = os.read(self._from, 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        method, facts = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = facts["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "assert"):
            self.errors.append(json.dumps(facts["args"]))
        elif method == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.errors.append(facts["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not facts["request"]["url"].startswith("data:"):
            self.requests.append(facts["request"]["url"])

    def look(self, width: int, height: int = 900, scheme: str = "light", media: str = "") -> None:
        """Size of the window in CSS pixels, light or dark, screen or print."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def open(self, path: Path) -> None:
        """Open a report and wait until its charts are drawn."""
        self.errors, self.requests = [], []
        failed = self.call("Page.navigate", url=path.absolute().as_uri()).get("errorText")
        assert not failed, f"{path}: {failed}"
        self.wait_for("document.readyState === 'complete' && document.documentElement.dataset.drawn === 'true'")

    def wait_for(self, condition: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.value(f"Boolean({condition})"):
            assert time.monotonic() < end and not self.errors, f"{condition} does not come true; {self.errors}"
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """Of JavaScript, as JSON; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, path: Path, whole: bool = False) -> None:
        """PNG of the window, or of the whole length of the page."""
        clip = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def move_mouse(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A tab of a new browser with an empty profile folder; the browser ends with the block."""
    to_child, ours_out = os.pipe()
    ours_in, from_child = os.pipe()
    command = [chromium_path() or "chromium", *FLAGS, f"--user-data-dir={profile}"]
    shell = ["bash", "-c", f'exec "$@" 3<&{to_child} 4>&{from_child}', "bash", *command]
    process = subprocess.Popen(
        shell, pass_fds=(to_child, from_child), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to_child)
    os.close(from_child)
    page = Page(ours_out, ours_in)
    try:
        yield page
    finally:
        page._session = None
        page.call("Browser.close")
        process.wait(PATIENCE_SECONDS)
        os.close(ours_out)
        os.close(ours_in)
