"""A headless Chromium, spoken to over a pipe (DevTools protocol): no driver and no websocket is needed."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

WATCHED = ("Runtime", "Log", "Network")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run",
         "--hide-scrollbars", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
         "--remote-debugging-pipe"]  # fmt: skip


def find_browser() -> str:
    """Path of the browser; skips the test where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("no chromium here: install it to have the report opened in a browser")
    return found


class Browser:
    """One page of a browser. `requests`: addresses that it asked for; `console`: warnings, errors and exceptions."""

    def __init__(self, profile: Path):
        ours, theirs = os.pipe(), os.pipe()  # what it reads, what it writes
        command = [find_browser(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        script = f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command], pass_fds=(ours[0], theirs[1]), stderr=subprocess.DEVNULL
        )
        os.close(ours[0]), os.close(theirs[1])
        self.out, self.back, self.rest = ours[1], theirs[0], b""
        self.numbers, self.session = itertools.count(1), None
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.frames: list[str] = []
        for domain in ("Page", *WATCHED):
            self.call(f"{domain}.enable")
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        self.call("Performance.enable", timeDomain="threadTicks")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)

    def _read(self, deadline: float) -> dict:
        while b"\0" not in self.rest:
            ready = select.select([self.back], [], [], max(0.0, deadline - time.monotonic()))[0]
            piece = os.read(self.back, 1 << 20) if ready else b""
            assert piece, "the browser does not answer"
            self.rest += piece
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def _send(self, method: str, params: dict, session: str | None) -> int:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data) :]
        return number

    def _watch(self, frame: str) -> None:
        """A frame with a process of its own is watched before it runs."""
        self.frames.append(frame)
        for method in (*(f"{domain}.enable" for domain in WATCHED), "Runtime.runIfWaitingForDebugger"):
            self._send(method, {}, frame)

    def call(self, method: str, timeout: float = 90, frame: str | None = None, **params: Any) -> dict:
        """Answer to a command; events that come in between are kept."""
        number = self._send(method, params, frame or self.session)
        deadline = time.monotonic() + timeout
        while True:
            told = self._read(deadline)
            if told.get("id") == number:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]
            self.events.append(told)
            if told.get("method") == "Target.attachedToTarget" and self.session:
                self._watch(told["params"]["sessionId"])

    def open(self, address: str, width: int = 1280, height: int = 900) -> float:
        """Open a page in a window of this size, the network off. Returns the CPU seconds that its thread was busy with it, or
        more, where the browser kept the thread of the page before; what others do on the machine does not count.
        """
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.events.clear()
        self.frames.clear()
        start = time.monotonic()
        self.call("Page.navigate", url=address)
        while self.run("document.readyState") != "complete" or self.run("location.href") == "about:blank":
            assert time.monotonic() - start < 90, "the page does not load"
            time.sleep(0.02)
        return {m["name"]: m["value"] for m in self.call("Performance.getMetrics")["metrics"]}["TaskDuration"]

    def run(self, script: str, wait: bool = False, frame: str | None = None) -> Any:
        """Value of an expression in the page, or in one of its frames; `wait`: for the promise that it is."""
        told = self.call(
            "Runtime.evaluate", frame=frame, expression=script, returnByValue=True, awaitPromise=wait, userGesture=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def key(self, name: str, code: int, text: str = "") -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, text=text)

    def picture(self, path: Path, whole: bool = False) -> None:
        """What the window shows, or the whole page, as PNG."""
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))

    @property
    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened, beside the page itself and what it holds."""
        sent = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("data:", "blob:", "about:", "file:"))]

    @property
    def console(self) -> list[str]:
        """Warnings, errors and exceptions since the page was opened."""
        lines = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                lines.append(str(params["exceptionDetails"]))
            if event.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                lines.append(str(params["args"]))
            if event.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                lines.append(params["entry"]["text"])
        return lines

    def close(self) -> None:
        """End the browser."""
        try:
            self.session = None
            self.call("Browser.close", timeout=20)
        except (AssertionError, OSError):
            self.process.kill()
        self.process.wait(timeout=30)
        os.close(self.out), os.close(self.back)
