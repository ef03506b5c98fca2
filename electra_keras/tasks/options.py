"""What a fine-tuning run can be told; `electra_keras.flags` makes the flags, as of options.py."""

import dataclasses

from electra_keras.config import require
from electra_keras.options import RunOptions, option


@dataclasses.dataclass(frozen=True)
class TaskOptions:
    """What is fine-tuned: the task, its data, and how texts become inputs."""

    task: str | None = option(
        None, "A GLUE task (CoLA, SST-2, ...), or 'classification' for data of your own."
    )
    data_dir: str | None = option(None, "Directory of train, dev and test files.")
    train_file: str | None = option(None, "In place of the one in data_dir.")
    dev_file: str | None = option(None, "In place of the one in data_dir.")
    text_columns: str = option(
        "text", "One or two columns, by comma: names in the header, keys of JSONL, or numbers."
    )
    label_column: str = option("label", "Column of the label or number.")
    header: bool = option(True, "TSV and CSV files begin with the columns' names.")
    multi_label: bool = option(False, "An example may have any number of labels.")
    label_separator: str = option(",", "Between the labels of a multi-label example.")
    regression: bool = option(False, "Labels are numbers.")
    max_seq_length: int = option(128, "Tokens per input; longer texts are cut.")
    truncation: str = option(
        "head", "What stays of a text that is too long.", ("head", "tail", "head_tail")
    )

    def __post_init__(self) -> None:
        require(bool(self.task), "--task is missing: a GLUE task, or classification")
        require(
            not (self.multi_label and self.regression),
            "--multi_label and --regression contradict each other",
        )


@dataclasses.dataclass(frozen=True)
class FineTuningOptions(RunOptions):
    """One fine-tuning run; None takes the original's value (configure_finetuning.py)."""

    num_train_epochs: float | None = option(
        None, "Passes over the training examples; default 3, RTE and STS-B 10."
    )
    checkpoint: str = option("best", "Of --init_from: best, latest, or a step.")
    random_weights: bool = option(
        False, "Start from random weights of --init_from's sizes, to see what pre-training brings."
    )
    layerwise_lr_decay: float = option(
        0.8, "Each layer's learning rate / the layer above's; the paper: 0.9 for Large. 1: none."
    )
    original_layer_decay: bool = option(
        False, "One power more of the decay below the head, as the original's code has it."
    )
    loss_reduction: str = option(
        "mean", "Of a batch's losses; the original's code sums.", ("mean", "sum")
    )
    double_unordered: bool = option(
        False, "Train on pairs in both orders, as the original does on MRPC and STS-B."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.train_steps is None or self.num_train_epochs is None,
            "--train_steps and --num_train_epochs contradict each other: give one",
        )
        require(
            self.num_train_epochs is None or self.num_train_epochs > 0,
            "--num_train_epochs must be above 0",
        )
        require(0 < self.layerwise_lr_decay <= 1, "--layerwise_lr_decay must be in (0, 1]")

    def resolve(self, task: str, num_examples: int) -> "FineTuningOptions":
        """Returns a copy with the steps, rates and batch sizes filled in.

        Args:
            task: decides the epochs.
            num_examples: to train on.

        Raises:
            UsageError: fewer examples than a batch holds.
        """
        batch_size = self.train_batch_size or 32
        require(
            num_examples >= batch_size,
            f"--train_batch_size={batch_size} is more than the {num_examples} training examples",
        )
        epochs = self.num_train_epochs or (10 if task in ("RTE", "STS-B") else 3)
        train_steps = self.train_steps or max(1, round(num_examples // batch_size * epochs))
        ratio = 0.1 if self.warmup_ratio is None else self.warmup_ratio
        return dataclasses.replace(
            self,
            train_batch_size=batch_size,
            train_steps=train_steps,
            num_train_epochs=None,
            learning_rate=self.learning_rate or 1e-4,
            warmup_steps=(
                round(ratio * train_steps) if self.warmup_steps is None else self.warmup_steps
            ),
            warmup_ratio=None,
            eval_batch_size=self.eval_batch_size or 64,
        )
