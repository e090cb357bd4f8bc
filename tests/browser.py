"""A headless Chromium, driven over the DevTools protocol through two pipes: no driver, no port, no package.

`TAGREEL_BROWSER` names another program than the first of `NAMES` on the path.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE_S

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # containers rarely allow it; only pages of the project's own are opened
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """Path of a browser, or None."""
    return shutil.which(os.environ.get("TAGREEL_BROWSER", "")) or next(filter(None, map(shutil.which, NAMES)), None)


class BrowserError(RuntimeError):
    """The browser ended, refused a command, or did not answer in time."""


class Browser:
    """Commands go to the browser's descriptor 3, its answers and events come from 4; each ends with a zero byte."""

    def __init__(self, program: str, profile: str) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # A shell moves the pipes to the descriptors that the browser expects.
        shell = ("sh", "-c", f'exec "$@" 3</dev/fd/{commands} 4>/dev/fd/{answers}', "sh")
        self._process = subprocess.Popen(
            (*shell, program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"),
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._rest, self._count = b"", 0
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One command and its result; what happens meanwhile is added to `events`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return answer["result"]
        raise BrowserError(f"no answer to {method} within {PATIENCE_S:g} s")

    def wait_for(self, method: str) -> None:
        """Until an event has come; those before the call count, so clear `events` first."""
        came = any(event["method"] == method for event in self.events)
        if not came and not any(message.get("method") == method for message in self._messages()):
            raise BrowserError(f"no {method} within {PATIENCE_S:g} s")

    def _messages(self) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            while b"\0" in self._rest:
                text, self._rest = self._rest.split(b"\0", 1)
                message = json.loads(text)
                if "method" in message:
                    self.events.append(message)
                yield message
            if select.select([self._answers], [], [], 1.0)[0]:
                if not (read := os.read(self._answers, 1 << 20)):
                    raise BrowserError("the browser ended")
                self._rest += read

    def close(self) -> None:
        os.close(self._commands)  # the browser ends when its pipe does
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)


@contextmanager
def browser(program: str) -> Iterator[Browser]:
    """A browser with a new profile, gone afterwards."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        running = Browser(program, profile)
        try:
            yield running
        finally:
            running.close()


class Page:
    """One page in a tab of its own."""

    def __init__(self, running: Browser) -> None:
        self.browser = running
        target = running.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = running.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.send(method, self._session, **parameters)

    def show(self, width_px: int, *, dark: bool = False, media: str = "screen", scale: float = 1.0) -> None:
        """What the page is told of the screen (or the paper) it is on."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width_px, height=900, deviceScaleFactor=scale, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, path: Path | str, *, scripts: bool = True) -> list[dict[str, Any]]:
        """Load a file; returns the events of loading it."""
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.browser.events.clear()
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        self.browser.wait_for("Page.loadEventFired")
        return list(self.browser.events)

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression in the page (which works with its scripts disabled, too)."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if problem := answer.get("exceptionDetails"):
            raise BrowserError(problem["exception"].get("description", problem["text"]))
        return answer["result"].get("value")

    def screenshot(self, top_px: float = 0, height_px: float | None = None) -> bytes:
        """PNG of the page's whole width, from `top_px` on."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        height = min(height_px or size["height"], size["height"] - top_px)
        clip = {"x": 0, "y": top_px, "width": size["width"], "height": height, "scale": 1}
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])
