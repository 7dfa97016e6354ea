"""Firefox, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi), as far as the tests of it need.

Playwright drives a Firefox of its own making, or a release newer than the one that long-lived systems have.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

STARTS_WITHIN = 120  # seconds, on a busy machine
PAUSE = 0.1  # seconds between two looks
LISTENS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
# Nobody wants motion unless a test says so, as with Chromium; and nothing is asked of the network.
PREFERENCES = {
    "ui.prefersReducedMotion": 1, "app.update.enabled": False, "app.normandy.enabled": False,
    "browser.shell.checkDefaultBrowser": False, "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False, "network.connectivity-service.enabled": False,
    "remote.prefs.recommended": True,
}  # fmt: skip


class Firefox:
    """One window.

    Args:
        path: of the browser.
        profile: an empty folder.
        width, height: of the page, in pixels.
        patience: seconds that anything waited for may take.

    Attributes:
        wrong: what the console called errors.
    """

    def __init__(self, path: str, profile: Path, width: int, height: int, patience: float) -> None:
        self.wrong: list[str] = []
        self._patience, self._numbers, self._exits = patience, itertools.count(1), ExitStack()
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        (profile / "user.js").write_text("".join(lines))
        command = [path, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
        said = profile / "said.txt"
        with said.open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            line = connect(f"{self._address(said)}/session", max_size=None, proxy=None, ping_interval=None)
            self._line = self._exits.enter_context(line)
            self._ask("session.new", capabilities={})
            self._ask("session.subscribe", events=["log.entryAdded"])
            (tree,) = self._ask("browsingContext.getTree")["contexts"]
            self._context = tree["context"]
            self._ask("browsingContext.setViewport", context=self._context, viewport={"width": width, "height": height})
        except BaseException:
            self._process.kill()
            raise

    def open(self, url: str) -> None:
        """Go to an address, and wait until it is loaded."""
        self._ask("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def read(self, expression: str) -> Any:
        """The value of an expression in the page, anything that JSON can hold; an element is an empty object.

        Raises:
            RuntimeError: it failed there.
        """
        told = self._ask(
            "script.evaluate", expression=f"(async () => JSON.stringify(await ({expression})))()", awaitPromise=True,
            target={"context": self._context},
        )  # fmt: skip
        if told["type"] != "success":
            raise RuntimeError(told["exceptionDetails"]["text"])
        return json.loads(told["result"].get("value", "null"))

    def wait_for(self, expression: str) -> Any:
        """The value of an expression as soon as it is true.

        Raises:
            TimeoutError: it never was.
        """
        last = time.monotonic() + self._patience
        while not (value := self.read(expression)):
            if time.monotonic() > last:
                raise TimeoutError(f"never true within {self._patience:g} s: {expression}")
            with suppress(TimeoutError):
                self._note(json.loads(self._line.recv(timeout=PAUSE)))
        return value

    def click(self, selector: str) -> None:
        """Press the first element that can be seen, by the mouse."""
        place = f"""(async () => {{
          const found = [...document.querySelectorAll({json.dumps(selector)})].find((e) => e.checkVisibility());
          if (!found) return null;
          globalThis.wanted = found;
          found.scrollIntoView({{ block: "center", behavior: "instant" }});
          const middle = () => {{
            const box = found.getBoundingClientRect();
            return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
          }};
          const before = middle();
          for (let times = 3; times; times -= 1) await new Promise(requestAnimationFrame);
          const at = middle(); // where it stays, and nothing lies over it
          return String(at) === String(before) && found.contains(document.elementFromPoint(...at)) ? at : null;
        }})()"""
        while True:  # until it has got it: what moves in between lets a press go elsewhere
            self._press(*self.wait_for(place))
            if self.read("pressed"):
                return

    def _press(self, x: int, y: int) -> None:
        self.read(
            "void (globalThis.pressed = false, addEventListener('click', "
            "(event) => { pressed = wanted.contains(event.target); }, { capture: true, once: true }))"
        )
        pressed = [
            {"type": "pointerMove", "x": x, "y": y},
            *({"type": f"pointer{way}", "button": 0} for way in ("Down", "Up")),
        ]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": pressed}
        self._ask("input.performActions", context=self._context, actions=[mouse])

    def close(self) -> None:
        """End the browser."""
        self._exits.close()
        self._process.terminate()
        self._process.wait()

    def _address(self, said: Path) -> str:
        last = time.monotonic() + STARTS_WITHIN
        while not (found := LISTENS.search(said.read_text(errors="replace"))):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=PAUSE)
            if self._process.poll() is not None or time.monotonic() > last:
                raise RuntimeError(f"Firefox did not start: {said.read_text(errors='replace')}")
        return found[1]

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("method") == "log.entryAdded" and told["params"]["level"] == "error":
            self.wrong.append(told["params"]["text"])

    def _ask(self, method: str, **given: Any) -> Any:
        number = next(self._numbers)
        self._line.send(json.dumps({"id": number, "method": method, "params": given}))
        while True:
            told = json.loads(self._line.recv(timeout=self._patience))
            self._note(told)
            if told.get("id") == number:
                if told["type"] == "error":
                    raise RuntimeError(f"{method}: {told['message']}")
                return told["result"]
