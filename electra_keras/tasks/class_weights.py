"""Weights of classes in the loss, for data in which some are rare."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from electra_keras.console import UsageError

_FLAG = "--class_weights"


def class_weights(
    text: str, labels: Sequence[str], gold: Sequence[Sequence[str]], multi_label: bool
) -> tuple[float, ...]:
    """Returns the weight of each label in the loss.

    With one label an example, it multiplies the loss of the label's examples; with any number, the
    term of the label in those examples that have it, as `pos_weight` of
    tf.nn.weighted_cross_entropy_with_logits.

    Args:
        text: "balanced", or label=weight pairs by comma; who is not named has 1. "balanced" is
            n / (labels that occur x examples of the label), after King and Zeng 2001 ("Logistic
            Regression in Rare Events Data") and scikit-learn, by which the mean weight of an example
            is 1; in multi-label data (examples without the label) / (examples with it).
        labels: all, in the order of their ids.
        gold: the labels of each training example.
        multi_label: whether there may be any number of them.

    Raises:
        UsageError: a label that there is not, or no positive number.
    """
    if text == "balanced":
        counts, n = Counter(label for names in gold for label in names), len(gold)
        occurring = sum(counts[label] > 0 for label in labels)

        def balanced(count: int) -> float:
            if count == 0 or (multi_label and count == n):
                return 1.0  # there is nothing to balance
            return (n - count) / count if multi_label else n / (occurring * count)

        return tuple(balanced(counts[label]) for label in labels)
    weights = dict.fromkeys(labels, 1.0)
    # The longest name first: a label may hold commas, or begin with another one.
    names = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
    pair = re.compile(rf"\s*({names})\s*=\s*([^,]*?)\s*(?:,|$)")
    position = 0
    while True:
        found = pair.match(text, position)
        if found is None:
            item = text[position:].partition(",")[0]
            label, equals, _ = (part.strip() for part in item.rpartition("="))
            if not equals:
                raise UsageError(
                    f"{_FLAG} must be balanced, or label=weight pairs by comma: {item.strip()!r}"
                )
            known = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
            raise UsageError(f"{_FLAG}: no label {label!r} in the training data, which has {known}")
        label, number = found.groups()
        try:
            weights[label] = float(number)
        except ValueError:
            weights[label] = math.nan
        if not 0 < weights[label] < math.inf:
            raise UsageError(f"{_FLAG}: the weight of {label!r} must be above 0: {number!r}")
        position = found.end()
        if not found[0].endswith(","):
            return tuple(weights.values())
