"""What a fine-tuning run can be told; `electra_keras.flags` makes the flags, as of options.py."""

import dataclasses
from typing import ClassVar

from electra_keras.config import require
from electra_keras.options import RunOptions, option

INPUT_FORMATS = ("tsv", "csv", "jsonl", "json")
_HEADER = (
    "TSV and CSV files begin with the columns' names. Default: they do, if columns go by name; if by "
    "number, it must be said."
)
_SEPARATOR = (
    "Between the fields of TSV and CSV files: a character, or tab; default: tab or comma, or what "
    "parts the header into the columns that are asked for."
)
_QUOTED = "Fields may stand in double quotes; default: those of CSV files do, those of TSV do not."
_MAX_TEXT_LENGTH = (
    "Characters of a text; longer ones are refused, for each takes some 30 bytes of memory."
)


@dataclasses.dataclass(frozen=True)
class TaskOptions:
    """What is fine-tuned: the task, its data, and how texts become inputs."""

    task: str | None = option(
        None,
        "A GLUE task (CoLA, SST-2, ...); classification, question_answering or tagging for data of "
        "your own; or module:Class, a task of your own.",
    )
    data_dir: str | None = option(None, "Directory of train, dev and test files.")
    train_file: str | None = option(None, "In place of the one in data_dir.")
    dev_file: str | None = option(None, "In place of the one in data_dir.")
    dev_share: float | None = option(
        None,
        "Hold out this share of the training file in place of a dev file; articles stay whole.",
    )
    max_seq_length: int | None = option(
        None, "Tokens per input; default 128, question_answering 512, the original's."
    )
    input_format: str | None = option(
        None,
        "How to read files whose names do not end so, as train.txt: a table, or questions as SQuAD's "
        "json or as jsonl.",
        INPUT_FORMATS,
    )
    # Classification.
    text_columns: str = option(
        "text", "One or two columns, by comma: names in the header, keys of JSONL, or numbers."
    )
    label_column: str = option(
        "label",
        "Column of the label or number; with --multi_label also several, by comma, of 0 and 1, one "
        "for each label.",
    )
    header: bool | None = option(None, _HEADER)
    separator: str | None = option(None, _SEPARATOR)
    quoted: bool | None = option(None, _QUOTED)
    no_label: str | None = option(
        None,
        "Rows with this label have none, and are left out; default: in pairs of texts -, as SNLI has "
        "it; empty: no row is. Also of a label's own column.",
        may_be_empty=True,
    )
    max_text_length: int = option(10_000_000, _MAX_TEXT_LENGTH)
    multi_label: bool = option(False, "An example may have any number of labels.")
    label_separator: str = option(",", "Between the labels of a multi-label example.")
    regression: bool = option(False, "Labels are numbers.")
    truncation: str = option(
        "head", "What stays of a text that is too long.", ("head", "tail", "head_tail")
    )
    double_unordered: bool = option(
        False, "Train on pairs in both orders, as the original does on MRPC and STS-B."
    )
    class_weights: str | None = option(
        None, "balanced, or label=weight pairs by comma: how much each class counts in the loss."
    )
    # Question answering and tagging.
    stride: int | None = option(
        None,
        "Tokens from a window of a long text to the next; default 128 for questions, half of "
        "max_seq_length for tagging.",
    )
    answer_head: str = option(
        "electra",
        "The original's, whose end depends on the start and which has a classifier for questions "
        "without answer; or plain, BERT's two logits for a token.",
        ("electra", "plain"),
    )
    max_query_length: int = option(64, "Tokens of a question; the rest is cut.")
    max_answer_length: int = option(30, "Tokens of an answer.")
    beam_size: int = option(20, "Starts, and ends for each, that are looked at for answers.")
    null_threshold: float | None = option(
        None,
        "No answer is given where the null odds are above; default -2.75, the original's, and 0 "
        "with the plain head.",
    )
    word_column: int = option(0, "Of CoNLL files: the column of the words, from 0.")
    tag_column: int = option(-1, "Of CoNLL files: the column of the tags; -1 is the last.")
    tag_scheme: str = option(
        "BIOES",
        "Tags that the model learns; the file's own may be in any scheme. plain: labels of words, "
        "such as parts of speech, in place of tags of chunks.",
        ("BIO", "BIOES", "plain"),
    )

    OVERRIDES: ClassVar = {
        "data_dir": ("train_file", "dev_file"),
        "dev_file": ("dev_share",),
        "dev_share": ("dev_file",),
        "multi_label": ("regression",),
        "regression": ("multi_label", "class_weights"),
        "class_weights": ("regression",),
    }

    def __post_init__(self) -> None:
        require(
            bool(self.task),
            "--task is missing: a GLUE task, classification, question_answering ...",
        )
        require(
            not (self.multi_label and self.regression),
            "--multi_label and --regression contradict each other",
        )
        require(
            self.dev_share is None or self.dev_file is None,
            "--dev_share and --dev_file contradict each other: give one",
        )
        require(
            self.max_seq_length is None or self.max_seq_length >= 8,
            f"--max_seq_length must be at least 8: {self.max_seq_length}",
        )
        for name in (
            "stride",
            "max_query_length",
            "max_answer_length",
            "beam_size",
            "max_text_length",
        ):
            value = getattr(self, name)
            require(value is None or value >= 1, f"--{name} must be at least 1: {value}")


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """What a fine-tuned model is to make predictions for."""

    input: str = option(
        "-",
        "File; - is standard input. Classification: .tsv, .csv, .jsonl with --text_columns, else a "
        "text a line (a pair: two, parted by a tab). Questions: SQuAD .json, MRQA .jsonl, else JSON "
        "lines of question and context. Tagging: a text a line, or with --word_column a CoNLL file.",
    )
    input_format: str | None = option(
        None,
        "How to read an input whose name does not end so, as standard input: a table, or questions "
        "as SQuAD's json or as jsonl.",
        INPUT_FORMATS,
    )
    text_columns: str | None = option(
        None, "One or two columns of a table, by comma; default: as in training."
    )
    id_column: str | None = option(None, "Column of a table's ids; default: counted from 0.")
    header: bool | None = option(None, _HEADER + " As in training.")
    separator: str | None = option(None, _SEPARATOR)
    quoted: bool | None = option(None, _QUOTED)
    max_text_length: int = option(10_000_000, _MAX_TEXT_LENGTH)
    word_column: int | None = option(
        None, "The input is a CoNLL file with the words in this column, from 0."
    )
    tag_column: int | None = option(
        None,
        "Its column of gold tags, if it has one; --submission_dir's file then shows them, too.",
    )
    glue_dir: str | None = option(None, "A GLUE task's directory, in place of --input.")
    split: str = option("test", "With --glue_dir: which of its files.")

    OVERRIDES: ClassVar = {
        "glue_dir": ("input", "input_format"),
        "input": ("glue_dir",),
        "input_format": ("glue_dir",),
    }

    def __post_init__(self) -> None:
        require(
            self.glue_dir is None or (self.input == "-" and self.input_format is None),
            "--glue_dir contradicts --input and --input_format: give one",
        )
        require(
            self.tag_column is None or self.word_column is not None,
            "--tag_column needs --word_column: which column of the file holds the words",
        )
        require(
            self.max_text_length >= 1,
            f"--max_text_length must be at least 1: {self.max_text_length}",
        )


@dataclasses.dataclass(frozen=True)
class FineTuningOptions(RunOptions):
    """One fine-tuning run; what is not given has the original's value (configure_finetuning.py)."""

    num_train_epochs: float | None = option(
        None, "Passes over the training examples; default 3, RTE and STS-B 10, questions 2."
    )
    checkpoint: str = option("best", "Of --init_from: best, latest, or a step.")
    random_weights: bool = option(
        False, "Start from random weights of --init_from's sizes, to see what pre-training brings."
    )
    hidden_dropout_prob: float | None = option(
        None, "Dropout after embeddings and sub-layers, and of the head; default: --init_from's."
    )
    attention_probs_dropout_prob: float | None = option(
        None, "Dropout of attention probabilities; default: --init_from's."
    )
    layerwise_lr_decay: float = option(
        0.8, "Each layer's learning rate / the layer above's; the paper: 0.9 for Large. 1: none."
    )
    original_layer_decay: bool = option(
        False, "One power more of the decay below the head, as the original's code has it."
    )
    num_trials: int = option(
        1, "Runs with the seeds seed, seed + 1, ..., each in trial-SEED of model_dir."
    )
    loss_reduction: str = option(
        "mean", "Of a batch's losses; the original's code sums.", ("mean", "sum")
    )

    OVERRIDES: ClassVar = RunOptions.OVERRIDES | {
        "train_steps": ("num_train_epochs",),
        "num_train_epochs": ("train_steps",),
    }

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
        require(self.num_trials >= 1, "--num_trials must be at least 1")
        require(
            self.num_trials == 1 or self.eval_steps > 0,
            "--num_trials compares dev metrics, and --eval_steps=0 makes none",
        )
        require(
            self.num_trials == 1 or not self.fresh,
            "--fresh is for a single run: with --num_trials delete the directory, or choose another",
        )

    def resolve(self, default_epochs: int, num_examples: int) -> "FineTuningOptions":
        """Returns a copy with the steps, rates and batch sizes filled in.

        Args:
            default_epochs: of the task.
            num_examples: rows to train on.

        Raises:
            UsageError: fewer examples than a batch holds.
        """
        batch_size = self.train_batch_size or 32
        require(
            num_examples >= batch_size,
            f"--train_batch_size={batch_size} is more than the {num_examples} training examples",
        )
        epochs = self.num_train_epochs or default_epochs
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
