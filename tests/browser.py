"""A real browser that lays pages out: Debian's Chromium, headless. CI says that there has to be one."""

import os
import shutil
import subprocess

import pytest

NEEDED = "NEEDS_BROWSER"  # set: a test that finds no browser fails, in place of being skipped
_FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_MEASURE = "<script>document.title = [innerWidth, document.documentElement.scrollWidth].join(' ')</script>"

needs_browser = pytest.mark.skipif(not _FOUND and NEEDED not in os.environ, reason="no browser here")


def widths(folder, html, width):
    """The width that a browser gives a page, and the one that the page takes."""
    assert _FOUND, f"{NEEDED} is set, and there is no browser; next: apt-get install chromium"
    (folder / "page.html").write_text(html.replace("</body>", f"{_MEASURE}</body>"))
    frame = folder / "frame.html"  # a window of a browser cannot be as narrow as a phone: a frame can
    frame.write_text(
        f'<iframe src="page.html" style="width:{width}px;height:900px;border:0" onload="document.title='
        'this.contentDocument.title"></iframe>'
    )
    done = subprocess.run(
        [_FOUND, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
         "--allow-file-access-from-files", "--virtual-time-budget=3000", "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    inside, needed = done.stdout.partition("<title>")[2].partition("</title>")[0].split()
    return int(inside), int(needed)
