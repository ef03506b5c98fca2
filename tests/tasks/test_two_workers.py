"""Two processes with TF_CONFIG fine-tune one model together: the steps and the scores of one device."""

import numpy as np
import pytest

from tests import runs
from tests.tasks.test_finetune_mains import pretrained, write_jsonl  # noqa: F401

STEPS = 4


@pytest.mark.slow
def test_two_workers_equal_two_micro_batches(pretrained, tmp_path):  # noqa: F811
    write_jsonl(tmp_path / "train.jsonl", 32, seed=0)
    write_jsonl(tmp_path / "dev.jsonl", 8, seed=1)

    def arguments(name, *flags):
        return [
            f"--init_from={pretrained}", "--task=classification", f"--data_dir={tmp_path}",
            f"--model_dir={tmp_path / name}", "--max_seq_length=16", f"--train_steps={STEPS}",
            "--train_batch_size=8", "--eval_batch_size=8", "--learning_rate=1e-3", "--log_steps=1",
            "--eval_steps=2", *flags,
        ]  # fmt: skip

    code, alone, stderr = runs.run(
        "electra_keras.finetune", *arguments("one", "--gradient_accumulation_steps=2")
    )
    assert code == 0, stderr
    ends = runs.run_two_workers(
        "electra_keras.finetune", *arguments("two", "--strategy=multi_worker")
    )
    assert "2 replicas" in ends[0][1]
    # The chief alone reports.
    assert ends[0][0] == alone and ends[1][0] == ""

    expected, together = (runs.checkpoint_arrays(tmp_path / name, STEPS) for name in ("one", "two"))
    assert expected.keys() == together.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(together[name], array, rtol=2e-4, atol=2e-6, err_msg=name)
    records = [runs.metrics_of(tmp_path / name) for name in ("one", "two")]
    assert len(records[0]) == len(records[1]) == STEPS + 2
    for ours, theirs in zip(*records, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
