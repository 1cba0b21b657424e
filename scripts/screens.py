"""The pictures in docs/images, made of real screens by a real browser: Debian's Chromium, headless.

    python scripts/screens.py FOLDER   in the project that `dovetail demo --into FOLDER` left there

The drift page, what a few commands print, and MLflow's page of the version.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from dovetail.system import loopback

IMAGES = Path(__file__).resolve().parents[1] / "docs/images"
LARGEST = 200_000  # bytes of a picture
# On any name but this machine's own MLflow leaves out its assistant, which takes a third of the page.
HOST = "mlflow.example"
COMMANDS = ("dovetail status", "dovetail promote apples --dry-run", "dovetail gc")  # none that names whoever runs it


def browser(address: str, picture: Path, size: str, wait: int = 0) -> None:
    """A picture of an address; `wait` milliseconds for its scripts."""
    chromium = shutil.which("chromium")
    if not chromium:
        raise SystemExit("there is no chromium; next: apt-get install chromium")
    picture.unlink(missing_ok=True)  # Chromium may end well and draw nothing
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
                f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
                f"--user-data-dir={profile}", f"--window-size={size}", f"--screenshot={picture}",
                *([f"--virtual-time-budget={wait}"] if wait else []), address,
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
    if picture.stat().st_size > LARGEST:
        raise SystemExit(f"{picture} has {picture.stat().st_size} bytes, more than {LARGEST}")


def terminal(project: Path, picture: Path) -> None:
    """What commands print, as a terminal shows it."""
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=118, file=nowhere)
        for command in COMMANDS:
            said = subprocess.run(command.split(), cwd=project, capture_output=True, text=True, check=False).stdout
            console.print(Text(f"$ {command}", style="bold cyan"))
            shown = Text(said.rstrip() + "\n")
            shown.highlight_regex(r"(?m)^pass", "green")
            shown.highlight_regex(r"(?m)^FAIL", "red")
            console.print(shown, no_wrap=True, overflow="ellipsis")
        console.save_svg(str(picture), title="dovetail", theme=MONOKAI)
    text = picture.read_text(encoding="utf-8")  # the fonts of whoever looks, none from the network
    picture.write_text(re.sub(r"@font-face \{.*?\}", "", text, flags=re.DOTALL), encoding="utf-8")


def mlflow(project: Path, picture: Path) -> None:
    """MLflow's own page of the version."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/health"
    server = subprocess.Popen(
        ["mlflow", "ui", "--port", str(port), "--workers", "1", "--allowed-hosts", f"127.0.0.1:{port},{HOST}:{port}"],
        cwd=project, env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(300):
            try:
                loopback.opened(address, 5).close()
                break
            except OSError:
                time.sleep(0.2)
        page = f"http://{HOST}:{port}/#/models/apples/versions/1?workflowType=machine_learning"
        browser(page, picture, "1280,795", 15_000)  # above who made it
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    demo = Path(sys.argv[1]).resolve() / "apples"
    IMAGES.mkdir(exist_ok=True)
    browser((demo / "build/drift.html").as_uri(), IMAGES / "drift.png", "1100,620")
    terminal(demo, IMAGES / "terminal.svg")
    browser((IMAGES / "terminal.svg").as_uri(), Path(tempfile.gettempdir(), "terminal.png"), "1460,680")
    mlflow(demo, IMAGES / "mlflow.png")
