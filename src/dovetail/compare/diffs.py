"""`dovetail diff` where several models are meant: one comparison after the other."""

from dataclasses import dataclass
from typing import Any

from dovetail.compare.diff import DiffAnswer, DiffRequest
from dovetail.compare.diff import diff as of_one
from dovetail.compare.model_state import names_no_model
from dovetail.errors import UserError
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import Tracking
from dovetail.values.answer import Answer
from dovetail.values.finding import Finding


@dataclass(frozen=True, slots=True, repr=False)
class DiffsAnswer(Answer):
    """A comparison for each model, and why some could not be compared."""

    models: tuple[DiffAnswer, ...]
    problems: tuple[Finding, ...]

    def __repr__(self) -> str:
        return f"<DiffsAnswer {', '.join(map(repr, self.models))}; {len(self.problems)} not compared>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail diff --json` where several models are compared."""
        return {
            "models": [answer.as_json() for answer in self.models],
            "problems": [problem.as_json() for problem in self.problems],
        }


def diff(workspace: Workspace, tracking: Tracking, request: DiffRequest) -> DiffAnswer | DiffsAnswer:
    """Compare two states; of every model where dvc.yaml declares several and neither side names one.

    A model that lacks one of the two states, or was not trained, is a problem, and the others are compared.

    Raises:
        UserError: when a state is unknown or cannot be read.
        DataUnavailable, StoreError: as for one comparison.
    """
    models = list(workspace.tree.declared.models)
    if len(models) < 2 or not names_no_model(workspace, request.a, request.b):  # noqa: PLR2004  (several)
        return of_one(workspace, tracking, request)
    answers, problems = [], []
    for model in models:
        try:
            a = f"{request.a}:{model}" if request.a else model
            answers.append(of_one(workspace, tracking, DiffRequest(a, f"{request.b}:{model}")))
        except UserError as error:
            problems.append(Finding.of(error, model))
    return DiffsAnswer(tuple(answers), tuple(problems))
