"""Notices when generator and discriminator have lost their balance (paper section 3.2)."""

import dataclasses

# Windows (log intervals) in a row before a warning.
_PATIENCE = 10


@dataclasses.dataclass
class CollapseWatch:
    """Warns once for each way in which training can silently fail.

    Attributes:
        first_step: before this step a low recall does not count: every run starts with one.
        low_recall, easy_task: windows in a row that showed the sign.
        warned: signs that were reported.
    """

    first_step: int
    low_recall: int = 0
    easy_task: int = 0
    warned: list[str] = dataclasses.field(default_factory=list)

    def update(self, step: int, metrics: dict[str, float]) -> str | None:
        """Takes a window's training metrics; returns a warning, or None."""
        low_recall = step >= self.first_step and metrics["discriminator_recall"] < 0.005
        self.low_recall = self.low_recall + 1 if low_recall else 0
        self.easy_task = self.easy_task + 1 if metrics["sampled_accuracy"] > 0.85 else 0
        if self.low_recall >= _PATIENCE and "low_recall" not in self.warned:
            self.warned.append("low_recall")
            return (
                f"the discriminator calls every token original: recall "
                f"{metrics['discriminator_recall']:.2%} at AUC {metrics['discriminator_auc']:.3f}, "
                f"for {_PATIENCE} log intervals by step {step}. If the AUC is rising, train on; if it "
                "stays near 0.5, use a smaller generator (--generator_hidden_size), a higher "
                "--learning_rate or --initializer_range, or more text"
            )
        if self.easy_task >= _PATIENCE and "easy_task" not in self.warned:
            self.warned.append("easy_task")
            return (
                f"the generator's samples are right in {metrics['sampled_accuracy']:.0%} of the masked "
                f"positions (step {step}): only {metrics['replaced_share']:.2%} of the tokens are "
                "replaced, which leaves the discriminator little to learn. Use a smaller generator "
                "(--generator_hidden_size), a higher --temperature, --disallow_correct, or a "
                "corpus with fewer repetitions"
            )
        return None

    def state(self) -> dict[str, object]:
        """Returns what a checkpoint keeps."""
        return {
            "low_recall": self.low_recall,
            "easy_task": self.easy_task,
            "warned": list(self.warned),
        }

    def restore(self, state: dict[str, object]) -> None:
        """Takes up what `state` returned."""
        self.low_recall, self.easy_task = int(state["low_recall"]), int(state["easy_task"])
        self.warned = list(state["warned"])
