import shutil
import sys

import pytest
from datasets import Cleaned, cleaning_script

from stages import cleaning


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Cleaning in this process, with the script `src/stages/cleaning/d.py` in a folder of its own."""
    monkeypatch.setattr(cleaning, "__path__", [str(tmp_path / "cleaning")])
    (tmp_path / "cleaning").mkdir()

    def with_script(body="return frame"):
        sys.modules.pop("stages.cleaning.d", None)
        (tmp_path / "cleaning" / "d.py").write_text(cleaning_script(body))
        shutil.rmtree(tmp_path / "cleaning" / "__pycache__", ignore_errors=True)
        return Cleaned(tmp_path)

    yield with_script
    sys.modules.pop("stages.cleaning.d", None)
