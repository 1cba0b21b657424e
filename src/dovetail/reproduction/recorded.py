"""The recorded side of a rebuild: its bytes, as far as they are available, beside what was rebuilt."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dovetail.errors import DovetailError
from dovetail.gates import rules
from dovetail.repo.revision import Revision
from dovetail.reproduction.by_value import ModelPair, Sameness, compare_models, same_table
from dovetail.reproduction.verdict import Output
from dovetail.values.lineage import FileRef, Lineage


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """What a commit records of a model.

    Attributes:
        value: The digest of what the model is; None where none is recorded.
        folder: Where bytes can be written to be read.
    """

    tree: Revision
    model: str
    lineage: Lineage
    value: str | None
    folder: Path

    def compare_model(self, root: Path, outputs: Sequence[Output]) -> Sameness:
        """The model that was rebuilt below `root`, where its bytes or those of the folder around it differ."""
        ref = self.lineage.artifact
        if all(output.identical for output in outputs if FileRef(output.path, "").overlaps(ref.path)):
            return Sameness(value=True)
        if not (root / ref.path).exists():
            return Sameness()
        model = self.tree.model(self.model)
        card = self.tree.card(model)
        return compare_models(
            ModelPair(
                recorded=self._file(ref),
                rebuilt=root / ref.path,
                value=self.value,
                allow=tuple(rules.settings(model.gates, rules.PICKLE)["allow"]),
                tables=tuple(self._evaluated()),
                inputs=tuple(str(column["name"]) for column in card["inputs"]) if card else (),
            )
        )

    def with_value(self, output: Output, root: Path, model: Sameness) -> Output:
        """The output with whether it says the same, where its bytes differ and it is the model or a table."""
        if output.identical or output.expected is None or output.actual is None:
            return output
        if output.path == self.lineage.artifact.path:
            return replace(output, same_value=model.value)
        recorded = self._file(FileRef(output.path, output.expected))
        if recorded is None or not recorded.is_file():
            return output
        return replace(output, same_value=same_table(recorded, root / output.path, output.path))

    def _evaluated(self) -> Iterator[tuple[Path, str]]:
        """The tables that the model was evaluated on, each with its name."""
        for ref, role in self.lineage.data.items():
            if role == "evaluation" and (file := self._file(ref)):
                yield file, ref.path

    def _file(self, ref: FileRef) -> Path | None:
        """The recorded bytes; None where they are not available."""
        try:
            return self.tree.as_file(ref, self.folder)
        except DovetailError:
            return None
