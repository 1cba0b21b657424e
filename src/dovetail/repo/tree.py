"""What one tree says of its models: the working tree or a commit, with the same questions for both.

It is longer than other files: the questions are one class, which both trees fill in.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dovetail.errors import MissingFile, StaleLock, UnknownModel
from dovetail.repo import saved_model
from dovetail.repo.dvc_files import Tracked, is_in
from dovetail.repo.dvc_values import Declared, Model
from dovetail.repo.git_values import Commit
from dovetail.repo.ledger import Ledger
from dovetail.repo.quoted_paths import typed
from dovetail.repo.sources import Sources
from dovetail.values.documents import Unreadable, load_document, numbers, shown
from dovetail.values.environment import Environment
from dovetail.values.lineage import FileRef, Lineage, StageRecord, closure, flatten, named
from dovetail.values.names import unknown
from dovetail.values.registered_name import registered_name


class Tree(ABC):
    """One tree: what it declares, what its dvc.lock records, and the bytes of both.

    Attributes:
        commit: Where git stands; None before the first commit.
        dirty: Whether a tracked file differs from the commit.
        experiment: The DVC experiment that this tree belongs to, if any.
        stage: The DVC stage that is running, if any.
    """

    commit: Commit | None = None
    dirty: bool | None = None
    experiment: str | None = None
    stage: str | None = None

    def __init__(self, sources: Sources) -> None:
        self._git, self._pipeline, self._storage = sources.git, sources.pipeline, sources.storage
        self._read_ledger, self._read_today, self.find_commit = sources.ledger, sources.today, sources.git.commit

    @property
    @abstractmethod
    def declared(self) -> Declared:
        """What dvc.yaml declares here."""

    @property
    def models(self) -> Mapping[str, Model]:
        """The models of this tree, by name."""
        return self.declared.models

    @abstractmethod
    def _next_command_for_unknown(self, name: str) -> str:
        """What to do about a model that this tree does not have."""

    @property
    @abstractmethod
    def records(self) -> Mapping[str, StageRecord]:
        """Every stage that a dvc.lock of this tree records.

        Raises:
            UserError: when one cannot be read.
        """

    @property
    @abstractmethod
    def tracked(self) -> Mapping[str, Tracked]:
        """What the .dvc files of this tree keep, by path.

        Raises:
            UserError: when one cannot be read.
        """

    @abstractmethod
    def listing(self, ref: FileRef) -> list[FileRef]:
        """Every file below the folder `ref`.

        Raises:
            MissingFile, DataUnavailable: as for `read`.
        """

    @abstractmethod
    def in_git(self, folder: str) -> list[str]:
        """The files below `folder` that git keeps, or would if they were added."""

    @abstractmethod
    def file(self, path: str) -> FileRef:
        """The file or folder that lies at `path` in this tree.

        Raises:
            MissingFile: when there is none.
        """

    @abstractmethod
    def read(self, ref: FileRef) -> bytes:
        """The bytes of the file `ref`.

        Raises:
            MissingFile: when they are not there.
            DataUnavailable: when they are in no cache and no remote.
        """

    @abstractmethod
    def as_file(self, ref: FileRef, folder: Path) -> Path:
        """Where the file or folder `ref` can be read under its own name, written below `folder` if it is nowhere yet.

        Raises:
            MissingFile, DataUnavailable: as for `read`.
        """

    @property
    @abstractmethod
    def environment(self) -> Environment | None:
        """The packages that this tree is run with; None where it does not say."""

    @property
    def ledger(self) -> Ledger:
        """The promotions in git's tags, whichever tree this is."""
        return self._read_ledger()

    @property
    @abstractmethod
    def where(self) -> str:
        """This tree in a message: "the working tree", "commit 1a2b3c4d"."""

    @property
    def time(self) -> int | None:
        """When this tree came to be, in milliseconds since the epoch; None: now."""
        return None

    def model(self, name: str) -> Model:
        """The model of that name, in MLflow's registry or in dvc.yaml.

        Raises:
            UnknownModel: naming the models that there are.
        """
        registered = registered_name(name)
        if registered not in self.models:
            next_command = "dovetail list" if self.models else self._next_command_for_unknown(registered_name(name))
            known = [model.declared_name for model in self.models.values()]
            raise UnknownModel(unknown(f"dvc.yaml of {self.where}", "model", name, known), next_command)
        return self.models[registered]

    def lineage(self, model: Model) -> Lineage:
        """What made the bytes of `model` that lie in this tree.

        Raises:
            MissingFile: when the model is not there.
            StaleLock: when the model or a file beside it is not what DVC recorded.
        """
        artifact = self.artifact(model)
        shown = [artifact.path, *model.register_deps]
        stages = closure(self.records, shown)
        self._check(shown, [out for stage in stages for out in stage.outs])
        made = {out.path for stage in stages for out in stage.outs}
        sources = {dep for stage in stages for dep in stage.deps if dep.path not in made} | {artifact}
        return Lineage(
            model.name,
            artifact,
            stages,
            self.declared.metrics | self.declared.plots,
            evidence=self._loose(self.declared.metrics, model, stages),
            code=frozenset(ref.path for ref in sources if ref.is_folder and self.is_code_folder(ref)),
            origins={
                path: entry.origin
                for path, entry in sorted(self.tracked.items())
                if entry.origin and any(ref.overlaps(path) for ref in sources)
            },
            folder=self._folder(artifact, stages),
        )

    def _folder(self, artifact: FileRef, stages: Sequence[StageRecord]) -> FileRef | None:
        outs = [out for stage in stages for out in stage.outs]
        kept = [*outs, *(entry.ref for entry in self.tracked.values())]
        return next((ref for ref in kept if artifact.path.startswith(f"{ref.path}/")), None)

    def artifact(self, model: Model) -> FileRef:
        """The model's file; a declared folder stands for the one model in it.

        Raises:
            MissingFile: when the file is not there, or the folder does not hold one model.
        """
        ref = self.file(model.path)
        if not ref.is_folder:
            return ref
        inside = self.listing(ref)
        if found_in := saved_model.model_file(self, model, inside):
            return found_in
        found = [inner for inner in inside if Path(inner.path).suffix in saved_model.SUFFIXES]
        if len(found) != 1:
            names = ", ".join(inner.path for inner in found) or "none"
            raise MissingFile(
                f"the folder {ref.path} of model {model.name!r} holds not one model file but: {names}",
                f"name the file in dvc.yaml: artifacts: {{{model.declared_name}: {{path: …}}}}",
            )
        return found[0]

    def _check(self, shown: Sequence[str], outs: Sequence[FileRef]) -> None:
        """Refuse files that are not the bytes that DVC recorded, or that DVC has not recorded yet."""
        tracked = [(entry.ref, f"dvc add {self._typed(entry.ref.path)}", entry.file) for entry in self.tracked.values()]
        for ref, next_command, where in [*((out, "dvc repro", "dvc.lock") for out in outs), *tracked]:
            if any(ref.overlaps(path) for path in shown) and not self.is_as_recorded(ref):
                raise StaleLock(
                    f"{ref.path} (md5 {self.file(ref.path).md5}) is not what {where} records ({ref.md5})",
                    f"{next_command}, or to take the recorded file back: {self.taking_back(ref)}",
                )
        recorded = {out.path for out in outs}
        for path, stage in self.declared.outs.items():
            if path not in recorded and any(is_in(file, path) for file in shown):
                raise StaleLock(
                    f"{path} is made by the stage {stage}, which dvc.lock does not record", f"dvc repro {stage}"
                )

    def is_as_recorded(self, ref: FileRef) -> bool:
        """Whether the file or folder that lies in this tree is the one that DVC recorded."""
        return self.file(ref.path).md5 == ref.md5

    def taking_back(self, ref: FileRef) -> str:
        """The command that takes back the file that is recorded: DVC's, but for what only git keeps."""
        outs = [out for stage in self._pipeline.stages for out in stage.outs if out.path == ref.path]
        is_kept = all(out.cached for out in outs) or not self.in_git(ref.path)
        path = self._typed(ref.path)
        return f"dvc checkout --force {path}" if is_kept else f"git checkout -- {path}"

    def _typed(self, path: str) -> str:
        return typed(self._git.root, path)

    def _loose(self, paths: frozenset[str], model: Model, stages: Sequence[StageRecord]) -> tuple[FileRef, ...]:
        """Those of `paths` that the register stage reads and that a script outside the pipeline wrote."""
        deps = [path for path in model.register_deps if path in paths]
        return tuple(self.file(path) for path in deps if not any(stage.makes(path) for stage in stages))

    def is_code_folder(self, folder: FileRef) -> bool:
        """Whether most of what git keeps of the folder is code; what DVC keeps is data."""
        files = self.in_git(folder.path)
        if any(is_in(path, folder.path) for path in self.tracked):
            return False
        return sum(FileRef(file, "").is_code for file in files) * 2 > len(files)

    def params(self, lineage: Lineage) -> dict[str, str]:
        """The params that had a say, and those that the stages of `lineage` logged to files of their own.

        Raises:
            MissingFile: when such a file cannot be parsed.
        """
        found = lineage.params
        for ref in self.made(self.declared.params, lineage, files=True):
            for key, value in flatten(self.parsed(ref)):
                found[key if found.get(key, value) == value else f"{ref.path}:{key}"] = value
        return found

    def metrics(self, model: Model, lineage: Lineage) -> dict[str, float]:
        """The numbers in the metric files that the stages of `lineage` made or that lie beside the model.

        Nested keys are joined by dots. Those of a file that the register stage depends on keep their names, with the
        file in front where two have the same; the others, which tell of the data, get their stage's name in front:
        `accuracy`, `train.json:accuracy`, `clean.rows_in`.

        Raises:
            MissingFile: when a metric file is not there or cannot be parsed.
        """
        refs = self.made(self.declared.metrics, lineage, files=True)
        own = [ref for ref in refs if any(ref.overlaps(path) for path in model.register_deps)] or list(refs)
        entries = []
        for ref, stage in refs.items():
            prefix = "" if ref in own else stage.rpartition(":")[2].partition("@")[0] + "."
            content = self.parsed(ref)
            try:
                entries += [(ref.path, prefix + key, value) for key, value in numbers(content)]
            except Unreadable as error:
                raise MissingFile(
                    f"{ref.path} of {self.where} cannot be read: {error}", "correct what writes it, then: dvc repro"
                ) from error
        return named(entries)

    def made(self, paths: frozenset[str], lineage: Lineage, *, files: bool) -> dict[FileRef, str]:
        """Those of `paths` that a stage of `lineage` made, with the stage, and the evidence; `files`: no folder."""
        found: dict[FileRef, str] = {}
        for stage in lineage.stages:
            for out in stage.outs:
                for path in sorted(path for path in paths if is_in(path, out.path)):
                    inside = [out] if path == out.path and not (out.is_folder and files) else self.listing(out)
                    found |= {ref: stage.name for ref in inside if is_in(ref.path, path)}
        return found | {ref: "" for ref in lineage.evidence if ref.path in paths}

    def card(self, model: Model) -> dict[str, Any] | None:
        """What the pipeline says of the model without unpickling it; None where it says nothing."""
        if model.card is None:
            return saved_model.card(self, model)
        card = self.parsed(self.file(model.card))
        if not isinstance(card, dict):
            raise MissingFile(
                f"{model.card} of {self.where} is {shown(card)}, not a mapping",
                "correct what writes it, then: dvc repro",
            )
        return card

    def plots(self, model: Model, lineage: Lineage, folder: Path) -> dict[str, Path]:
        """The plots that the stages of `lineage` made or that lie beside the model, by their path in the repository."""
        plots = self.declared.plots
        refs = [*self.made(plots, lineage, files=False), *self._loose(plots, model, lineage.stages)]
        return {ref.path: self.as_file(ref, folder) for ref in refs}

    def parsed(self, ref: FileRef) -> Any:
        """The document in the file `ref`.

        Raises:
            MissingFile: when it is not there, or is none.
        """
        try:
            return load_document(self.read(ref), ref.path)
        except Unreadable as error:
            raise MissingFile(
                f"{ref.path} of {self.where} cannot be read: {error}", "correct what writes it, then: dvc repro"
            ) from error
