"""task.json of classification and question answering: every field of the right type and size."""

import json

import numpy as np
import pytest

from electra_keras.console import UserError
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.data.examples import QuestionExample, TextExample
from electra_keras.tasks.options import TaskOptions
from electra_keras.tasks.question_answering import QuestionAnsweringTask


def classifier(**options):
    labels = {"multi_label": [("a",), ("b",)], "regression": [1.0, 2.0]}
    labels = next((labels[name] for name in options if name in labels), ["a", "b"])
    examples = [TextExample(str(i), "text", None, label) for i, label in enumerate(labels)]
    return ClassificationTask.of_data(TaskOptions(task="classification", **options), examples)


TASKS = {
    "single": classifier(class_weights="balanced"),
    "multi": classifier(multi_label=True),
    "number": classifier(regression=True),
    "answers": QuestionAnsweringTask.of_data(
        TaskOptions(task="question_answering"), [QuestionExample("0", "?", "a")]
    ),
}
ANYTHING = [
    None, True, 0, -1, 2**31, 10**12, 1.5, "x", "\ud800", "", [], [None], [1], ["a", "a"], ["a", " "],
    ["\ud83d", "b"], [[]], {}, {"a": 1},
]  # fmt: skip
# What may be where.
FINE = {
    ("name", "x"), ("name", ""), ("pairs", True), ("has_impossible", True), ("null_threshold", 0),
    ("null_threshold", -1), ("null_threshold", 1.5), ("null_threshold", 2**31),
    ("null_threshold", 10**12), ("class_weights", "[]"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TASKS)
def test_any_value_in_any_field(kind):
    task = TASKS[kind]
    family, text = type(task), task.to_json()
    assert family.from_json(text, "task.json") == task
    fields = json.loads(text)
    for name in fields.keys() - {"family"}:
        for value in ANYTHING:
            changed = json.dumps(fields | {name: value})
            key = (name, value if isinstance(value, str | int | float) else json.dumps(value))
            if key in FINE or json.dumps(value) == json.dumps(fields[name]):
                family.from_json(changed, "task.json")
            else:
                with pytest.raises(UserError, match=r"task\.json holds"):
                    family.from_json(changed, "task.json")
                    pytest.fail(f"{name}={value!r} is taken")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("single", {"metrics": ["micro_f1", "new"]}),
        ("number", {"labels": ["a"]}),
        ("number", {"label_range": [2.0, 1.0]}),
        ("number", {"label_range": [1.0, float("nan")]}),
        ("single", {"class_weights": [1.0, 0.0]}),
        ("single", {"class_weights": [1.0, 2.0, 3.0]}),
        ("single", {"max_seq_length": 2}),
        ("answers", {"max_query_length": 509}),
        ("answers", {"max_query_length": 2**31 - 1, "max_seq_length": 2**31 - 1}),
    ],
)
def test_values_that_do_not_go_together(kind, values):
    fields = json.loads(TASKS[kind].to_json()) | values
    with pytest.raises(UserError, match=r"task\.json holds an impossible value"):
        type(TASKS[kind]).from_json(json.dumps(fields), "task.json")


@pytest.mark.parametrize(
    ("kind", "metric"), [("single", "micro_f1"), ("multi", "accuracy"), ("number", "macro_f1")]
)
def test_metrics_of_another_kind_of_task(kind, metric):
    fields = json.loads(TASKS[kind].to_json()) | {"metrics": [metric]}
    task = ClassificationTask.from_json(json.dumps(fields), "task.json")
    with pytest.raises(UserError, match=f"the metric {metric} is none of a .* task, see task.json"):
        task.evaluate(np.zeros((2, 2)), {"labels": np.zeros(2)}, [])


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{", "[" * 100_000, '{"family": {}}'])
def test_what_is_no_settings_at_all(text):
    for task in (TASKS["single"], TASKS["answers"]):
        with pytest.raises(UserError, match=r"task\.json holds no settings"):
            type(task).from_json(text, "task.json")


def test_earlier_runs_keep_the_order_of_their_labels():
    labels = [str(number) for number in range(12)]
    examples = [TextExample(label, "text", None, label) for label in labels]
    options = TaskOptions(task="classification", class_weights="2=3")
    task = ClassificationTask.of_data(options, examples)
    assert task.labels == tuple(labels)
    fields = json.loads(task.to_json())
    earlier = json.dumps(fields | {"labels": sorted(labels)})
    assert ClassificationTask.from_json(earlier, "task.json").labels[2] == "10"
    resumed = task.in_order_of(earlier)
    assert resumed.labels == tuple(sorted(labels))
    assert dict(zip(resumed.labels, resumed.class_weights, strict=True))["2"] == 3
    for other in (task.to_json(), json.dumps(fields | {"labels": labels[:-1]}), "{", "{}"):
        assert task.in_order_of(other) == task
