"""What all commands share: errors in one line that names the cause, output as UTF-8."""

import io
import signal
import sys

import pytest
from absl import app

from electra_keras.console import reason, run_main
from tests.runs import run

# isort: split
import tensorflow as tf

TWO_ROOTS = """Graph execution error:

Detected at node 'IteratorGetNext' defined at (most recent call last):
    File "/x/train.py", line 3, in <module>
      run_main(main)
Node: 'IteratorGetNext'
2 root error(s) found.
  (0) DATA_LOSS:  truncated record at 1234
\t [[{{node IteratorGetNext}}]]
\t [[while/body/_1/Const/_29]]
  (1) CANCELLED:  Function was cancelled before it was started
0 successful operations.
0 derived errors ignored. [Op:__inference_run_12345]"""
LOST_WORKER = """Graph execution error:

Detected at node CollectiveReduceV2 defined at (most recent call last):
<stack traces unavailable>
Collective ops is aborted by: Connection reset by peer
Additional GRPC error information from remote target /job:worker/replica:0/task:1:
\t [[{{node CollectiveReduceV2}}]] [Op:__inference_run_7]"""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("plain"), "plain"),
        (ValueError(" two\nlines"), "two"),
        (KeyError(), "KeyError"),
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory"),
        (tf.errors.DataLossError(None, None, TWO_ROOTS), "truncated record at 1234"),
        (
            tf.errors.UnavailableError(None, None, LOST_WORKER),
            "Collective ops is aborted by: Connection reset by peer",
        ),
        (
            tf.errors.NotFoundError(
                None, None, "{{function_node a}} {{function_node b}} /x; No such [Op:Read] name: "
            ),
            "/x; No such",
        ),
        (tf.errors.UnknownError(None, None, "Graph execution error:\n"), "Graph execution error:"),
    ],
)  # fmt: skip
def test_the_reason_of_an_error(error, expected):
    assert reason(error) == expected


def fails(function):
    with pytest.raises(Exception) as error:
        function()
    return reason(error.value)


def test_the_reason_of_errors_in_graphs(tmp_path):
    """As TensorFlow words them."""
    damaged = tmp_path / "damaged.tfrecord"
    damaged.write_bytes(b"x" * 40)

    def refuse(_):
        raise ValueError("a file changed")

    def loop(dataset):
        iterator = iter(dataset)
        return tf.function(lambda: tf.size(next(iterator)))

    numbers = tf.data.Dataset.range(2)
    assert fails(loop(tf.data.TFRecordDataset(str(damaged)))).startswith("corrupted record at 0")
    missing = str(tmp_path / "none")
    assert fails(loop(tf.data.TFRecordDataset(missing).batch(2))).startswith(f"{missing}; No such")
    failing = numbers.map(lambda x: tf.py_function(refuse, [x], tf.int64))
    assert "ValueError: a file changed" in fails(loop(failing))
    outside = tf.function(lambda x: tf.gather([1, 2], x))
    assert fails(lambda: outside(tf.constant([7]))) == "indices[0] = 7 is not in [0, 2)"
    assert "Cannot reshape" in fails(lambda: tf.function(tf.reshape)(tf.zeros([3]), [7]))


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (tf.errors.UnavailableError(None, None, "Socket closed"), True),
        (tf.errors.InternalError(None, None, LOST_WORKER), True),
        (tf.errors.InternalError(None, None, "something else"), False),
        (ValueError("Collective ops is aborted"), False),
    ],
)
def test_a_lost_worker_is_one_line_wherever_it_is_noticed(error, is_one, monkeypatch, capsys):
    def main():
        raise error

    monkeypatch.setattr(app, "run", lambda guarded, flags_parser: guarded([]))
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # whose encoding stays as it is
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit if is_one else type(error)):
            run_main(main)
    finally:
        signal.signal(signal.SIGTERM, handler)
    said = capsys.readouterr().err
    assert ("another worker has stopped or cannot be reached" in said) == is_one
    assert said.count("\n") == is_one


def test_output_is_utf8_whatever_the_locale():
    code, stdout, stderr = run("tests.print_text")
    assert stdout == "\u65e5\u00e4 \\ud800\n"
    assert code == 1 and "Traceback" not in stderr
    assert "error: text that cannot be read or written: 'utf-8' codec" in stderr
