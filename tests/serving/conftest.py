"""Exports that the tests of this directory share: of the golden model, and of fine-tuned ones."""

import dataclasses
from pathlib import Path

import pytest

from electra_keras.interop import google, model_directory
from electra_keras.serving import archive, finetuned, pretrained, windowed
from electra_keras.serving.signatures import Servable
from tests.interop.models import GOOGLE
from tests.runs import run
from tests.serving import finetuned_models
from tests.serving.native import NativeModel
from tests.serving.texts import BUCKETS, TEXTS


@dataclasses.dataclass(frozen=True)
class Export:
    model_dir: Path
    path: Path
    servable: Servable
    stdout: str


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """The golden model as the command exports it, and as Python computes it."""
    directory = tmp_path_factory.mktemp("golden")
    model = google.read(GOOGLE, None, {})
    (directory / "model").mkdir()
    model_directory.write(model, directory / "model")
    code, stdout, stderr = run(
        "electra_keras.export",
        f"--model_dir={directory / 'model'}",
        f"--export_dir={directory / 'export'}",
        f"--sequence_buckets={','.join(map(str, BUCKETS))}",
    )
    assert code == 0, stderr
    servable = pretrained.make_servable(model, ["discriminator", "generator"], BUCKETS)
    return Export(directory / "model", directory / "export" / "1", servable, stdout)


@pytest.fixture(scope="session")
def native(export):
    """The export in TensorFlow's C++ loader, in this process."""
    return NativeModel(export.path)


@pytest.fixture(scope="session")
def finetuned_exports(tmp_path_factory):
    """An export of every kind of fine-tuned model, by the names of finetuned_models.TASKS."""
    exports = {}
    with pytest.MonkeyPatch.context() as patch:
        # So few that the graph must take some turns over the windows of the texts.
        patch.setattr(windowed, "_TOKENS_AT_A_TIME", 4 * BUCKETS[-1])
        for name, task in finetuned_models.TASKS.items():
            directory = tmp_path_factory.mktemp(name)
            finetuned_models.write(task, directory / "model")
            servable = finetuned.make_servable(directory / "model", buckets=list(map(str, BUCKETS)))
            path = archive.write_version(servable, directory / "export", 1)
            exports[name] = Export(directory / "model", path, servable, "")
    return exports


def requests():
    """A request for each signature."""
    texts = [text.encode() if isinstance(text, str) else text for text in TEXTS]
    ids = {
        "input_ids": [[2, 10, 4, 300, 3, 0], [2, 4, 3, 4, 3, 0]],
        "input_mask": [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0]],
        "segment_ids": [[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]],
    }
    masked = [b"The [MASK] sat on the [MASK].", b"none", b"[mask] [MASK", b"a " * 50 + b"[MASK]"]
    return {
        "serving_default": {"text": texts},
        "replaced_tokens": {"text": texts},
        "replaced_tokens_pair": {"text": texts, "text_pair": texts[::-1]},
        "replaced_tokens_ids": ids,
        "embed": {"text": texts},
        "embed_ids": ids,
        "embed_tokens": {"text": texts},
        "embed_tokens_ids": ids,
        "fill_mask": {"text": masked},
        "fill_mask_ids": ids,
    }
