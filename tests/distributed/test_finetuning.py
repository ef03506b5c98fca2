"""Fine-tuning under MirroredStrategy makes the steps of one device, dropout included, bit for bit."""

import json
import shutil

import numpy as np

from tests import runs


def test_two_replicas_continue_what_two_micro_batches_began(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 32), ("dev", 8)):
        with (tmp_path / f"{split}.jsonl").open("w") as file:
            for _ in range(count):
                words = [f"word{i}" for i in rng.integers(5, 50, rng.integers(2, 14))]
                row = {"text": " ".join(words), "label": int(rng.integers(2))}
                file.write(json.dumps(row) + "\n")
    records = runs.write_records(tmp_path / "records", examples=16)
    pretrained = tmp_path / "pretrained"
    runs.train(
        f"--data_dir={records}", f"--model_dir={pretrained}", "--train_steps=1",
        "--train_batch_size=8", "--warmup_steps=1",
    )  # fmt: skip

    def finetuned(name, *flags):
        code, _, stderr = runs.run(
            "electra_keras.finetune", f"--init_from={pretrained}", "--task=classification",
            f"--data_dir={tmp_path}", f"--model_dir={tmp_path / name}", "--max_seq_length=16",
            "--train_steps=4", "--train_batch_size=8", "--eval_batch_size=8", "--learning_rate=1e-3",
            "--log_steps=1", *flags,
        )  # fmt: skip
        assert code == 0, stderr
        return runs.checkpoint_arrays(tmp_path / name, 4)

    one, mirrored = tmp_path / "one", tmp_path / "mirrored"
    expected = finetuned("one", "--gradient_accumulation_steps=2", "--save_steps=2")
    shutil.copytree(one, mirrored)
    for name in ("step-00000004", "best"):
        shutil.rmtree(mirrored / "checkpoints" / name)
    continued = finetuned("mirrored", "--strategy=mirrored", "--logical_cpus=2")
    assert expected.keys() == continued.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(continued[name], array, err_msg=name)
    records = [[r for r in runs.metrics_of(d) if r["split"] == "train"] for d in (one, mirrored)]
    assert len(records[0]) == 4
    assert records[0] == records[1]
