"""params.yaml, checked: every block has a schema, nothing has a default, a typo fails with the list of what exists."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.places import PARAMS

PSEUDO = "_pseudo"  # at the end of a base learner's name: of the second round

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Widths = Annotated[list[Count], Field(min_length=1)]
Width = Annotated[float, Field(ge=0)]
Fit = Literal["truncate", "resample"]
Schedule = Literal["one_cycle", "cosine"]


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise ValueError("a name stands twice; name each once")
    return names


def _checked_name(name: str) -> str:
    """dvc.yaml puts names into commands, which a shell reads, and into paths."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ValueError(
            "a name may hold letters of the English alphabet, digits, `_`, `.` and `-`, and starts with a letter, a "
            "digit or `_`, because it stands in commands and paths; rename it"
        )
    return name


Name = Annotated[str, AfterValidator(_checked_name)]

Channel = Literal["stroke_order", "thirds", "velocity", "pause"]
Channels = Annotated[list[Channel], Field(min_length=1), AfterValidator(_each_once)]


class Block(BaseModel):
    """A block of params.yaml: unknown names are refused, values are not coerced, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(Block):
    """The raw competition files, in Kaggle's layout.

    Attributes:
        folder: the folder of the raw files.
        train: folder with one `<word>.csv` or `<word>.ndjson` per word, inside `folder`.
        test: the test drawings, inside `folder`.
        sample_submission: the file that gives a submission its rows and their order, inside `folder`.
        labels: true words of the test rows, inside `folder`; `key_id,word` as in a submission. Null if not known.
    """

    folder: str
    train: str
    test: str
    sample_submission: str
    labels: str | None


class Synthesize(Block):
    """The synthetic competition.

    Attributes:
        competitions: `[synthetic]` to write data/synthetic; empty if the raw files come from another source.
        train_rows: training drawings per word.
        test_rows: test drawings per word.
        unrecognized: share of drawings left unfinished, marked `recognized=False` in the training files.
        mislabelled: share of training drawings that show another word than their file's.
    """

    competitions: list[Name]
    train_rows: Count
    test_rows: Count
    unrecognized: Share
    mislabelled: Share


class Shuffle(Block):
    """How raw files become folds of shards.

    Attributes:
        words: `all`, or the list of words to keep (a smaller competition out of a larger one).
        shards: shards per fold.
        max_rejected: the stage fails if a larger share of the rows is rejected.
    """

    words: Literal["all"] | list[str]
    shards: Count
    max_rejected: Share


class Oof(Block):
    """The prediction cache.

    Attributes:
        max_rows: out-of-fold rows that a learner caches in total, an equal share per fold.
    """

    max_rows: Annotated[int, Field(ge=100)]


class InitialWeights(Block):
    """A local file of weights to start from.

    Attributes:
        path: a weights.safetensors, as `train` writes it, of a network that has seen no drawing of this competition:
            each fold is held out in turn. Layers with another shape (such as the last layer for other words) start from
            random weights.
        sha256: of that file, so that DVC and the prediction cache notice another file.
    """

    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Training(Block):
    """How one network is fitted.

    Attributes:
        batch_size: drawings per step.
        micro_batches: parts of a step's batch, computed one after the other with summed gradients: more parts need less
            memory. Doubled during a run when memory runs out.
        epochs: passes over the training rows.
        schedule: decay of the learning rate after its warm-up: linear (one_cycle) or half a cosine (cosine).
        learning_rate: the schedule's peak.
        warmup: share of the steps in which the rate rises.
        weight_decay: AdamW's, applied to weight matrices and kernels only.
        label_smoothing: share of the target spread over all words.
        adversarial: size of the fast-gradient-sign change of the inputs, in their unit; 0 for none.
        ema: decay of the exponential moving average of the weights that predicts; 0 for the last weights. In step n it
            is at most (1 + n) / (10 + n), so that a short run also forgets its first weights.
        clip_norm: the gradient's largest global norm.
        precision: of the arithmetic inside the network; weights stay float32.
        compile: compile the network as a whole (torch.compile; XLA under Keras): minutes at the start, for a GPU.
        initial_weights: a local file to start from, or null.
    """

    batch_size: Count
    micro_batches: Count
    epochs: Count
    schedule: Schedule
    learning_rate: Annotated[float, Field(gt=0)]
    warmup: Share
    weight_decay: Annotated[float, Field(ge=0)]
    label_smoothing: Share
    adversarial: Annotated[float, Field(ge=0)]
    ema: Annotated[float, Field(ge=0, lt=1)]
    clip_norm: Annotated[float, Field(gt=0)]
    precision: Literal["float32", "bfloat16"]
    compile: bool
    initial_weights: InitialWeights | None


class Augmentation(Block):
    """Random distortions of a training drawing, before it is encoded.

    Attributes:
        flip: probability of mirroring left and right.
        rotate: largest angle in degrees, in both directions.
        scale: largest change of size, independent per axis: 0.1 draws from 0.9 to 1.1.
        shear: largest horizontal shear, in both directions.
        shift: largest shift as a share of the canvas, in both directions, independent per axis.
        jitter: largest shift of each point, in the unit of `shift`.
        stroke_dropout: probability that a stroke is dropped; the stroke with the most points is never dropped.
        mixup: alpha of the Beta distribution that says how much of other drawings is mixed into a batch of pictures;
            0 for nothing.
        mirror_test: average predictions over a drawing and its mirror image.
    """

    flip: Share
    rotate: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0)]
    shift: Share
    jitter: Share
    stroke_dropout: Share
    mixup: Annotated[float, Field(ge=0)]
    mirror_test: bool


class LearnerParams(Block):
    """One learner. `network` and `encoding` are checked against the signatures that take them."""

    network: dict[str, Any]
    encoding: dict[str, Any]
    augmentation: Augmentation
    training: Training


class Pseudo(Block):
    """The second round: learners fitted again, with test drawings under pseudo-labels of a teacher.

    Attributes:
        learners: learners to fit again, as base learners `<learner>_pseudo`; empty for no second round.
        teacher: the learner of `ensemble` whose test predictions give the pseudo-labels.
        confidence: the least probability of the teacher's best word to use a test drawing.
    """

    learners: Annotated[list[Name], AfterValidator(_each_once)]
    teacher: Name
    confidence: Annotated[float, Field(gt=0, le=1)]


class Checkpoints(Block):
    """When a training run writes a resume point: after the time or the steps, whichever comes first.

    Attributes:
        seconds: time between two resume points, or null.
        steps: steps between two resume points, or null.
    """

    seconds: Annotated[float, Field(ge=0)] | None
    steps: Count | None


class Stack(Block):
    """The SuperLearner.

    Attributes:
        metalearners: names of files in pipeline/stacking/metalearners, in the order of the tables.
        calibrate: scale each learner to its temperature before they are combined, where that lowers its log loss.
        dense_rows: out-of-fold rows up to which mlens holds the learners' predictions in memory.
        params: one block per meta-learner, checked against its constructor.
    """

    metalearners: Annotated[list[Name], Field(min_length=1)]
    calibrate: bool
    dense_rows: Count
    params: dict[Name, dict[str, Any]]


class Submit(Block):
    """Submissions.

    Attributes:
        competition: its name at Kaggle, null if it is not there.
        prior: `uniform` if the test set has equally many drawings of each word; null if that is not known.
        balance: method that makes predictions agree with the prior: `scaling` or `assignment`, see
            pipeline/submissions/balance.py.
    """

    competition: Name | None
    prior: Literal["uniform"] | None
    balance: Literal["scaling", "assignment"]


class Params(Block):
    """All of params.yaml.

    Attributes:
        profile: name of the competition; also the folder below data/.
        seed: every random number derives from it.
        threads: threads of the arithmetic. Results repeat to the byte at a fixed number.
        devices: GPUs (or processes, without a GPU) that train one learner together. Results repeat at a fixed number.
        checkpoints: when a training run writes resume points.
        folds: the folds to hold out, `[0, 1, ...]`, at least three.
        ensemble: the learners to train and to stack.
        learners: one block per learner; learners that are not in `ensemble` are not used.
        pseudo: the second round.
    """

    profile: Name
    seed: Annotated[int, Field(ge=0)]
    threads: Count
    devices: Count
    checkpoints: Checkpoints
    folds: list[int]
    data: Data
    synthesize: Synthesize
    shuffle: Shuffle
    oof: Oof
    ensemble: Annotated[list[Name], Field(min_length=1)]
    learners: dict[Name, LearnerParams]
    pseudo: Pseudo
    stack: Stack
    submit: Submit

    @field_validator("folds")
    @classmethod
    def _folds_count_up(cls, folds: list[int]) -> list[int]:
        if len(folds) < 3:
            raise ValueError(
                "too few folds: the SuperLearner is scored on a fold by fitting it on the others, which it cuts again; "
                "name at least three, as in [0, 1, 2]"
            )
        if folds != list(range(len(folds))):
            raise ValueError(f"folds must count up from 0, as in {list(range(len(folds)))}")
        return folds

    @field_validator("ensemble")
    @classmethod
    def _each_learner_once(cls, ensemble: list[str]) -> list[str]:
        if len(set(ensemble)) != len(ensemble):
            raise ValueError("a learner is named twice; name each once")
        return ensemble

    @model_validator(mode="after")
    def _each_name_has_a_block(self) -> Params:
        for names, place, blocks in (
            (self.ensemble, "learners", self.learners),
            (self.pseudo.learners, "learners", self.learners),
            (self.stack.metalearners, "stack.params", self.stack.params),
        ):
            for name in names:
                if name not in blocks:
                    raise ValueError(f"{name!r} has no block {place}.{name}; there are {', '.join(sorted(blocks))}")
        return self

    @field_validator("learners")
    @classmethod
    def _no_name_of_the_second_round(cls, learners: dict[str, LearnerParams]) -> dict[str, LearnerParams]:
        for name in learners:
            if name.endswith(PSEUDO):
                raise ValueError(f"{name!r} is named as a base learner of the second round; end it otherwise")
        return learners

    @model_validator(mode="after")
    def _the_teacher_is_trained(self) -> Params:
        if self.pseudo.learners and self.pseudo.teacher not in self.ensemble:
            raise ValueError(
                f"pseudo.teacher {self.pseudo.teacher!r} is not trained in the first round; name one of `ensemble`: "
                f"{', '.join(self.ensemble)}"
            )
        return self

    @property
    def base_learners(self) -> list[str]:
        """The names of all that is trained and stacked: the learners of `ensemble`, then those of the second round."""
        return [*self.ensemble, *(name + PSEUDO for name in self.pseudo.learners)]

    def learner(self, name: str) -> LearnerParams:
        """The block of one learner.

        Raises:
            SketchstackError: params.yaml has none of that name.
        """
        if name not in self.learners:
            raise SketchstackError(
                f"{PARAMS} has no block learners.{name}; it has {', '.join(sorted(self.learners))}. "
                f"Add the block, or take {name!r} out of `ensemble`."
            )
        return self.learners[name]

    def learner_hash(self, name: str) -> str:
        """Fingerprint of all params that the predictions of a base learner depend on."""
        rows = {"words": self.shuffle.words, "shards": self.shuffle.shards, "folds": self.folds}
        learner = self.learner(learner_of(name)).model_dump()
        made_from = {"learner": learner, "rows": rows, "max_rows": self.oof.max_rows}
        if name != learner_of(name):  # not `pseudo.learners`: each is fitted whatever the others are
            teacher = {"teacher": self.pseudo.teacher, "taught": self.learner_hash(self.pseudo.teacher)}
            made_from["pseudo"] = teacher | {"confidence": self.pseudo.confidence}
        return fingerprint({**made_from, "seed": self.seed, "threads": self.threads, "devices": self.devices})

    @property
    def sample_path(self) -> Path:
        """The sample submission, which gives a submission its rows and their order."""
        return Path(self.data.folder, self.data.sample_submission)

    @property
    def labels_path(self) -> Path | None:
        """The file of the test rows' true words, if there is one."""
        return Path(self.data.folder, self.data.labels) if self.data.labels else None


def check_data(params: Params) -> None:
    """Check that the raw files of a profile exist, before anything is removed or trained.

    Raises:
        SketchstackError: their folder is missing, and no stage writes it.
    """
    folder = Path(params.data.folder)
    if folder.is_dir() or folder.name in params.synthesize.competitions:
        return
    pointer = folder.with_name(f"{folder.name}.dvc")
    pull = f" (or `dvc pull {pointer}` from a remote)" if pointer.exists() else ""
    raise SketchstackError(
        f"the profile {params.profile!r} reads its raw files from {folder}, which is not there; bring them with "
        f"`make data NAME={folder.name}{'' if folder.name in ('google', 'kaggle') else ' FROM=FOLDER'}`{pull}."
    )


def learner_of(base_learner: str) -> str:
    """The learner whose code and block make a base learner, of whichever round."""
    return base_learner.removesuffix(PSEUDO)


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON-compatible value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _paragraph(path: Path, error: ValidationError) -> str:
    """Convert pydantic's list of faults to a paragraph that names each by its path in the file."""
    faults = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            block = _block_at(fault["loc"][:-1])
            known = ", ".join(block.model_fields) if block else "other names"
            faults.append(f"{where} is unknown; that block has {known}")
        elif fault["type"] == "missing":
            faults.append(f"{where} is missing")
        else:
            place = f"{where}: " if where else ""
            value = "" if isinstance(fault["input"], dict) else f" (it is {fault['input']!r})"
            # YAML 1.1 reads 1e-3 as text.
            hint = "; write 0.001 or 1.0e-3" if re.fullmatch(r"\d+e-?\d+", str(fault["input"])) else ""
            faults.append(f"{place}{fault['msg'].removeprefix('Value error, ')}{value}{hint}")
    return f"{path}: {'; '.join(faults)}. See profiles/ for complete params files."


def _block_at(place: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The schema of the block at a place in params.yaml."""
    block: type[BaseModel] = Params
    names = list(place)
    while names:
        name = names.pop(0)
        if name == "learners" and names:
            names.pop(0)
            block = LearnerParams
            continue
        field = block.model_fields.get(str(name))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        block = field.annotation
    return block


class _UniqueKeys(yaml.SafeLoader):
    """YAML without repeated keys: of a block pasted twice, plain YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(
                    f"{name!r} stands twice in one block, the block at line {node.start_mark.line + 1}"
                )
        return super().construct_mapping(node, deep)


def load_params(path: Path = PARAMS) -> Params:
    """Read and check a params file.

    Raises:
        SketchstackError: the file is missing, is not YAML, or does not fit the schema.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise SketchstackError(f"{Path.cwd() / path} is missing; run from the repository's root.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SketchstackError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise SketchstackError(_paragraph(path, error)) from None
