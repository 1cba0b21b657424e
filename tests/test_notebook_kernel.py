"""The answers of the Python API in a real notebook: a Jupyter kernel runs the cells, and what it shows is looked at."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import templates
from test_report import Elements

JUPYTER = Path(sys.prefix) / "jupyter"  # where `make jupyter` puts it
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (JUPYTER / ".installed").exists(), reason="make jupyter installs it"),
]

RUN = """
import sys, nbformat
from nbclient import NotebookClient
cells = [nbformat.v4.new_code_cell(source) for source in sys.argv[2:]]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
nbformat.write(notebook, sys.argv[1])
"""

CELLS = {  # source → what its HTML has in it, and which words
    "repository.status()": ("table", "version 2"),
    "repository.list('m')": ("table", "@production"),
    "repository.lineage('m/1')": ("svg", "data.csv"),
    "repository.history('m')": ("li", "m#production#1"),
    "repository.show('m/1')": ("svg", "accuracy ≥ 0.5"),
    "repository.diff('m/1', 'm/2')": ("table", "train.w"),
    "repository.promote('m', 2, dry_run=True)": ("table", "provenance.commit"),
}


def test_a_kernel_shows_answers_as_tables_and_graphs_and_an_error_as_one_line(tmp_path_factory, tmp_path):
    project = templates.copy_of(templates.versions(tmp_path_factory), tmp_path / "mit ü")
    project.run("dovetail", "promote", "m", "--version", "1")
    first, wrong = "import dovetail\nrepository = dovetail.open()", "repository.show('m/9')"
    places = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    env = {**os.environ, **places, "IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": str(JUPYTER)}
    written = tmp_path / "n.ipynb"
    subprocess.run([sys.executable, "-c", RUN, written, first, *CELLS, wrong], cwd=project.root, env=env, check=True)
    opened, *cells, failed = json.loads(written.read_text())["cells"]
    assert opened["outputs"] == []
    for cell, (element, words) in zip(cells, CELLS.values(), strict=True):
        *printed, output = cell["outputs"]
        assert all("IProgress not found" in "".join(one["text"]) for one in printed)  # tqdm's, without ipywidgets
        assert output["output_type"] == "execute_result"
        found = Elements("".join(output["data"]["text/html"]))
        assert element in {tag for tag, _ in found.found}, cell["source"]
        assert words in found.text, cell["source"]
        assert output["data"]["text/plain"]
    (error,) = failed["outputs"]
    assert (error["ename"], error["output_type"]) == ("UnknownReference", "error")
    assert error["evalue"].endswith("next: dovetail list m")
