"""How much of a pre-trained encoder fine-tuning changes: freezing, gradual unfreezing, LoRA."""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import keras

from electra_keras.config import matches, require
from electra_keras.console import UserError
from electra_keras.modeling.encoder import Encoder
from electra_keras.modeling.lora import Lora, is_lora, merge_lora
from electra_keras.options import option
from electra_keras.training import run_directory
from electra_keras.training.arrays import assign_arrays, read_arrays


def depth_of(path: str) -> int | None:
    """Returns a variable's place in the encoder: embeddings 0, layer i at i + 1; of a head None."""
    if not path.startswith("discriminator/"):
        return None
    layer = re.match(r"discriminator/layer_(\d+)/", path)
    return int(layer[1]) + 1 if layer else 0


@dataclasses.dataclass(frozen=True)
class AdaptationOptions:
    """What of the encoder is trained; the head always is."""

    freeze: str = option(
        "none",
        "What keeps its pre-trained weights: none, embeddings, encoder, or a number of lowest layers, "
        "the embeddings with them.",
    )
    unfreeze_steps: int | None = option(
        None,
        "Of what --freeze names, train one layer more from the top every so many steps, the embeddings "
        "last (ULMFiT's gradual unfreezing).",
    )
    unfreeze_epochs: float | None = option(None, "The same in epochs, in place of unfreeze_steps.")
    lora_rank: int | None = option(
        None,
        "Freeze the encoder, and train low-rank updates of the attention's projections (LoRA) in its "
        "place; they are merged when the model is loaded.",
    )
    lora_alpha: float | None = option(
        None, "Scale of LoRA's updates x lora_rank; default: lora_rank, that is a scale of 1."
    )

    OVERRIDES: ClassVar = {
        "freeze": ("lora_rank", "lora_alpha"),
        "lora_rank": ("freeze", "unfreeze_steps", "unfreeze_epochs"),
        "unfreeze_steps": ("unfreeze_epochs",),
        "unfreeze_epochs": ("unfreeze_steps",),
    }

    def __post_init__(self) -> None:
        require(
            self.freeze in ("none", "embeddings", "encoder")
            or (self.freeze.isascii() and self.freeze.isdigit() and int(self.freeze) > 0),
            f"--freeze must be none, embeddings, encoder or a number of layers: {self.freeze!r}",
        )
        for name in ("unfreeze_steps", "unfreeze_epochs", "lora_rank", "lora_alpha"):
            value = getattr(self, name)
            require(value is None or value > 0, f"--{name} must be above 0: {value}")
        require(
            self.unfreeze_steps is None or self.unfreeze_epochs is None,
            "--unfreeze_steps and --unfreeze_epochs contradict each other: give one",
        )
        unfreezing = self.unfreeze_steps is not None or self.unfreeze_epochs is not None
        name = "unfreeze_steps" if self.unfreeze_epochs is None else "unfreeze_epochs"
        require(
            not unfreezing or self.freeze != "none",
            f"--{name} needs --freeze: what is frozen at first, as --freeze=encoder",
        )
        require(
            self.lora_rank is None or self.freeze == "none",
            "--lora_rank freezes the whole encoder itself: leave out --freeze",
        )
        require(
            self.lora_alpha is None or self.lora_rank is not None, "--lora_alpha needs --lora_rank"
        )

    def resolve(self, num_layers: int, train_steps: int, steps_per_epoch: int) -> "Adaptation":
        """Returns what they mean for an encoder and a run.

        Args:
            num_layers: of the encoder.
            train_steps: of the run.
            steps_per_epoch: of its training data.

        Raises:
            UsageError: more layers than there are, or an unfreezing that never begins.
        """
        names = {"none": 0, "embeddings": 1, "encoder": num_layers + 1}
        frozen = names.get(self.freeze) or (0 if self.freeze == "none" else int(self.freeze) + 1)
        require(
            frozen <= num_layers + 1,
            f"--freeze={self.freeze}: the model has only {num_layers} layers",
        )
        every, flag = self.unfreeze_steps or 0, f"--unfreeze_steps={self.unfreeze_steps}"
        if self.unfreeze_epochs is not None:
            every = max(1, round(self.unfreeze_epochs * steps_per_epoch))
            flag = f"--unfreeze_epochs={self.unfreeze_epochs}"
        require(
            every < train_steps,
            f"{flag}: the first layer would be unfrozen after step {every}, but the run has only "
            f"{train_steps}",
        )
        rank = self.lora_rank or 0
        alpha = float(rank if self.lora_alpha is None else self.lora_alpha)
        require(rank == 0 or num_layers > 0, "--lora_rank: the model has no layers")
        return Adaptation(frozen, every, rank, alpha)


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """How much of the encoder a run changes; adaptation.json of its directory where it is not all.

    Attributes:
        frozen: how many of (embeddings, layer 0, layer 1, ...) are frozen at the start.
        unfreeze_steps: every so many steps one less of them is, the uppermost first (Howard and Ruder
            2018, arXiv 1801.06146, section 3.3); 0: all stay frozen.
        lora_rank, lora_alpha: as of `Lora`, with which all of the encoder's own weights are frozen; a
            rank of 0: without.
    """

    frozen: int = 0
    unfreeze_steps: int = 0
    lora_rank: int = 0
    lora_alpha: float = 0.0

    def to_json(self) -> str | None:
        """Returns the text of adaptation.json; None where everything is trained from the start."""
        if self == Adaptation():
            return None
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, model_dir: Path) -> Self:
        """Returns that of a run directory; the default where it has no adaptation.json.

        Raises:
            UserError: it cannot be read.
        """
        text = run_directory.read_text(model_dir, run_directory.ADAPTATION_FILE)
        if text is None:
            return cls()
        where = model_dir / run_directory.ADAPTATION_FILE
        try:
            adaptation = cls(**json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{where} cannot be read: {error}") from error
        for field in dataclasses.fields(cls):
            value = getattr(adaptation, field.name)
            if not matches(value, field.type) or value < 0:
                raise UserError(f"{where} holds an impossible value: {field.name} is {value!r}")
        return adaptation

    @property
    def lora(self) -> Lora | None:
        """The low-rank updates, or None."""
        return Lora(self.lora_rank, self.lora_alpha) if self.lora_rank else None

    def freeze(self, encoder: Encoder) -> None:
        """Marks as not trainable what is never trained; `encoder` was built with `lora`."""
        for variable in encoder.weights:
            if self.lora is not None:
                variable.trainable = is_lora(variable.path)
            elif not self.unfreeze_steps and depth_of(variable.path) < self.frozen:
                variable.trainable = False

    @property
    def first_step(self) -> "FirstStep":
        """A function of a variable's path, for `ElectraOptimizer`."""
        return FirstStep(self.frozen, self.unfreeze_steps)

    def describe(self, variables: Sequence[keras.Variable], train_steps: int) -> str:
        """Returns how many parameters are trained, and how this grows.

        Args:
            variables: of encoder and head.
            train_steps: of the run.
        """
        everything = sum(math.prod(variable.shape) for variable in variables)
        sizes = [
            (self.first_step(variable.path), math.prod(variable.shape))
            for variable in variables
            if variable.trainable
        ]

        def trained(step: int) -> str:
            return f"{sum(size for first, size in sizes if first <= step) / 1e6:.3f}"

        text = f"{trained(0)} of {everything / 1e6:.3f} M parameters are trained"
        last = max(first for first, _ in sizes)
        if last:
            text += f", one layer more every {self.unfreeze_steps} steps"
            end = min(last, train_steps - 1)
            text += f", {trained(end)} M from step {end // self.unfreeze_steps * self.unfreeze_steps} on"
        return text


@keras.saving.register_keras_serializable("electra_keras")
@dataclasses.dataclass(frozen=True)
class FirstStep:
    """From which step on a variable that is trained at all is trained; arguments as of `Adaptation`."""

    frozen: int
    unfreeze_steps: int

    def __call__(self, path: str) -> int:
        """Returns the step of the variable at a path."""
        depth = depth_of(path)
        if depth is None or depth >= self.frozen:
            return 0
        return (self.frozen - depth) * self.unfreeze_steps

    def get_config(self) -> dict[str, int]:
        """Returns the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, int]) -> Self:
        """Returns the function of what `get_config` returned."""
        return cls(**config)


def load_merged(variables: Sequence[keras.Variable], model_dir: Path, checkpoint: Path) -> None:
    """Fills variables from a run's checkpoint, with LoRA's updates merged into the matrices.

    Args:
        variables: those of low-rank updates are left as they are.
        model_dir: whose checkpoint; one that is fine-tuned with LoRA or not, or pre-trained.
        checkpoint: one of its checkpoints.

    Raises:
        UserError: one is missing, or has another shape, or they cannot be read.
    """
    arrays, lora = read_arrays(checkpoint, "weights"), Adaptation.read(model_dir).lora
    if lora is None and any(map(is_lora, arrays)):
        raise UserError(
            f"{checkpoint} holds low-rank updates, but {model_dir} has no "
            f"{run_directory.ADAPTATION_FILE} that says their scale"
        )
    arrays = arrays if lora is None else merge_lora(arrays, lora)
    own = [variable for variable in variables if not is_lora(variable.path)]
    assign_arrays(own, arrays, checkpoint)
