"""One device, MirroredStrategy and MultiWorkerMirroredStrategy make the same training steps."""

import numpy as np
import pytest

from tests import runs

STEPS = 5
# Where a gradient is zero but for rounding, Adam's division makes the rounding visible.
TOLERANCE = dict(rtol=2e-4, atol=2e-6)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return runs.write_records(tmp_path_factory.mktemp("data"), examples=32)


def arguments(data, model_dir, accumulation, dropout, *more):
    return [
        f"--data_dir={data}",
        f"--validation_files={data}/train*",
        f"--model_dir={model_dir}",
        f"--train_steps={STEPS}",
        "--train_batch_size=8",
        "--eval_batch_size=8",
        "--learning_rate=1e-3",
        "--warmup_steps=1",
        "--log_steps=1",
        f"--eval_steps={STEPS}",
        f"--gradient_accumulation_steps={accumulation}",
        f"--hidden_dropout_prob={dropout}",
        f"--attention_probs_dropout_prob={dropout}",
        *more,
    ]


def assert_same_run(first, second):
    ours, theirs = (runs.checkpoint_arrays(d, STEPS) for d in (first, second))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], err_msg=name, **TOLERANCE)
    for ours, theirs in zip(runs.metrics_of(first), runs.metrics_of(second), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if isinstance(value, float):
                assert value == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_same_trajectory(data, tmp_path, dropout):
    """The global batch is cut in four: into micro-batches, replicas, workers, or some of each.

    Noise is numbered by the quarter, so even dropout is the same; without dropout the uncut batch
    must agree too.
    """
    reference = tmp_path / "one_device"
    runs.train(*arguments(data, reference, 4, dropout))
    others = {
        "mirrored, accumulating": (2, "--strategy=mirrored", "--logical_cpus=2"),
        "mirrored": (1, "--strategy=mirrored", "--logical_cpus=4"),
    }
    if not dropout:
        others["no accumulation"] = (1,)
        others["no XLA"] = (4, "--jit_compile=off", "--steps_per_execution=5")
    for name, (accumulation, *flags) in others.items():
        model_dir = tmp_path / name
        runs.train(*arguments(data, model_dir, accumulation, dropout, *flags))
        assert_same_run(reference, model_dir)
    runs.run_two_workers(
        "electra_keras.train",
        *runs.SMALL_MODEL,
        *arguments(data, tmp_path / "workers", 2, dropout, "--strategy=multi_worker"),
    )
    assert_same_run(reference, tmp_path / "workers")
