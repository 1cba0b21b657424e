"""Whatever a raw file or params.yaml holds: files, or one line; never a traceback."""

import shutil
import sys
from collections import Counter

import pytest
import yaml
from datasets import cleaning_script
from fuzzing import drawn
from hypothesis import strategies as st
from stages_in_process import DATASET, MODEL, TABLE, run_all
from strategies import params_texts, raw_files, schemas

from stages import cleaning

pytestmark = [pytest.mark.slow, pytest.mark.fuzz]
_JUDGED = 12  # of so many cases one draws its plots, too: they take a second


@pytest.fixture
def cases(tmp_path, monkeypatch, request):
    """Runs a strategy's cases, each in an empty folder, and fails with what went wrong in how many of them."""
    monkeypatch.setattr(cleaning, "__path__", [str(tmp_path / "cleaning")])
    (tmp_path / "cleaning").mkdir()
    (tmp_path / "cleaning" / "d.py").write_text(cleaning_script("return frame"))
    monkeypatch.chdir(tmp_path)
    folder, found, first, ends = tmp_path / "case", Counter(), {}, Counter()

    def run(strategy, write):
        @drawn(request.config, strategy, st.integers(1, _JUDGED))
        def each(case, number):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            write(folder, case)
            wrong = run_all(folder, judged=number == 1)
            made = [name for name in ("clean.parquet", "train.parquet", "m.joblib") if (folder / "out" / name).exists()]
            ends[made[-1] if made else "refused"] += 1
            if wrong:
                found[wrong] += 1
                first.setdefault(wrong, case)

        each()
        print(dict(ends))
        assert not found, "\n".join(
            f"{n:4} x {wrong}\n       {first[wrong]!r:.600}" for wrong, n in found.most_common()
        )
        assert len(ends) > 1, f"all cases end alike: {ends}"

    yield run
    sys.modules.pop("stages.cleaning.d", None)


def test_no_raw_file_ends_in_a_traceback(cases):
    def write(folder, case):
        (name, content), block = case
        (folder / name).write_bytes(content)
        dataset = {**DATASET, **block, "raw": name}
        split = {**MODEL["split"], "drop": []}
        (folder / "params.yaml").write_text(
            yaml.safe_dump({"sources": {}, "datasets": {"d": dataset}, "models": {"m": {**MODEL, "split": split}}})
        )

    cases(st.tuples(raw_files(), schemas()), write)


def test_no_params_yaml_ends_in_a_traceback(cases):
    def write(folder, text):
        (folder / "raw.csv").write_text(TABLE)
        (folder / "params.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")

    cases(params_texts(), write)
