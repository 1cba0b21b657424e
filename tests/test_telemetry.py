"""MLflow's telemetry: none in a process of Dovetail's, as the user has set it in everybody else's."""

import os
import subprocess
import sys

import pytest

from dovetail.system import telemetry

ASKS = "from mlflow.telemetry.client import get_telemetry_client as client; import os; print(client(), end=' ')\n"
SAYS = "print(os.environ.get('MLFLOW_DISABLE_TELEMETRY'), os.listdir(os.environ['HOME']))"
BY_COMMAND = "from dovetail.cli import main; main(['list', '--json'], standalone_mode=False)\n"
REASONS = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")  # MLflow's own


@pytest.mark.slow
def test_a_command_sends_nothing_and_what_it_starts_is_left_as_it_was(small, tmp_path):
    env = {name: value for name, value in {**os.environ, **small.env}.items() if name not in REASONS}
    home = tmp_path / "home"
    home.mkdir()
    env = {**env, "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", BY_COMMAND + ASKS + SAYS], cwd=small.root, env=env, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "None None []"  # nor does MLflow number this installation


def test_whoever_sets_it_is_followed(monkeypatch):
    monkeypatch.setenv(telemetry.ENV_NO_TELEMETRY, "false")
    with telemetry.switched_off():
        assert os.environ[telemetry.ENV_NO_TELEMETRY] == "false"
    assert os.environ[telemetry.ENV_NO_TELEMETRY] == "false"
