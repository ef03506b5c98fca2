"""Latency of an export against Keras and Hugging Face: same weights, same texts, raw strings in.

    pip install -r requirements-dev.txt -r requirements-convert.txt
    python benchmarks/serving_latency.py [--size=small | --model_dir=...] [--seconds=2]

Each contender is a process of its own, which tokenizes and computes on --threads threads; they take
turns, cell by cell, so that whatever else the machine does falls on all alike:

    export, export_vectors   replaced_tokens, embed_tokens, by TensorFlow's C++ loader, as in TF Serving
    keras                    the library's Tokenizer, then predict_on_batch, padded as the export pads
    hf_model                 fast tokenizer and ElectraForPreTraining in inference mode: no pipeline
    hf_pipeline              pipeline("feature-extraction"), batched, tensors out; as export_vectors

With the --model_dir of a fine-tuned model these are (its head has no counterpart in Hugging Face):

    export                   its serving_default; 8 of the words are the question of one that answers
    predict                  what electra_keras.predict does, without reading and writing

Prints a line of JSON per cell and contender: p50, p95 and p99 of a call in milliseconds, texts per
second; then the peak memory of each process. Nothing else may run on the machine.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
CONTENDERS = ("export", "export_vectors", "keras", "hf_model", "hf_pipeline")
CONTENDERS_FINETUNED = ("export", "predict")
# A cell: texts of so many words, so many in a call, so many threads that call.
WORDS = {"short": 8, "long": 110}
QUESTION_WORDS = 8
BATCHES, CALLERS = (1, 8, 32), (1, 2, 4, 8)
Answer = Callable[[list[str]], object]


# --- Contenders ----------------------------------------------------------------------------------


def split_words(texts: list[str], begin: int | None = None) -> tuple[list[str], list[str]]:
    """Returns the first words (default: half of them) and the others of each text."""
    words = [text.split() for text in texts]
    cuts = [len(row) // 2 if begin is None else begin for row in words]
    first = [" ".join(row[:cut]) for row, cut in zip(words, cuts, strict=True)]
    return first, [" ".join(row[cut:]) for row, cut in zip(words, cuts, strict=True)]


def load_export(directory: Path, threads: int, signature: str) -> Answer:
    from tests.serving.native import NativeModel

    model = NativeModel(directory / "export" / "1", threads)
    keys = set(model.signatures[signature][0])

    def answer(texts: list[str]) -> object:
        inputs = {"text": texts}
        if keys == {"text", "text_pair"}:
            inputs["text"], inputs["text_pair"] = split_words(texts)
        elif keys == {"question", "context"}:
            question, rest = split_words(texts, QUESTION_WORDS)
            inputs = {"question": question, "context": rest}
        return model.run(signature, inputs)

    return answer


def load_predict(directory: Path, threads: int) -> Answer:
    import tensorflow as tf

    from electra_keras.tasks import running
    from electra_keras.tasks.data.examples import QuestionExample, TextExample
    from electra_keras.tasks.question_answering import QuestionAnsweringTask

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    model, task, tokenizer = running.load_finetuned(directory / "model")
    predictor = running.Predictor(tf.distribute.get_strategy(), model)

    def answer(texts: list[str]) -> object:
        if isinstance(task, QuestionAnsweringTask):
            columns, kind = split_words(texts, QUESTION_WORDS), QuestionExample
        else:
            pairs = getattr(task, "pairs", False)
            columns, kind = split_words(texts) if pairs else (texts,), TextExample
        examples = [kind(str(i), *row) for i, row in enumerate(zip(*columns, strict=True))]
        features = task.features(examples, tokenizer)
        return task.predictions(predictor.outputs(features), features, examples)

    return answer


def load_keras(directory: Path, threads: int) -> Answer:
    import tensorflow as tf

    from electra_keras.interop import model_directory
    from electra_keras.pretraining.pretrainer import ElectraPretrainer
    from electra_keras.serving.encoding import TextEncoder, choose_buckets
    from electra_keras.text.tokenizer import Tokenizer

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    loaded = model_directory.read(directory / "model")
    model = ElectraPretrainer(loaded.config)
    for variable in model.trainable_variables:
        variable.assign(loaded.weights[variable.path])
    encoder = TextEncoder(Tokenizer(loaded.vocabulary), choose_buckets(loaded.config, None))

    def answer(texts: list[str]) -> object:
        encoded = encoder.encode(tf.constant(texts))
        names = ("input_ids", "input_mask", "segment_ids")
        return model.predict_on_batch({name: getattr(encoded, name) for name in names})

    return answer


def load_huggingface(directory: Path, threads: int, pipeline: bool) -> Answer:
    import torch
    import transformers

    torch.set_num_threads(threads)
    path = str(directory / "huggingface" / "discriminator")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    tokenizer.model_max_length = json.loads((directory / "model/config.json").read_text())[
        "max_seq_length"
    ]
    if pipeline:
        run = transformers.pipeline(
            "feature-extraction", model=path, tokenizer=tokenizer, return_tensors=True,
            tokenize_kwargs={"truncation": True},
        )  # fmt: skip
        return lambda texts: run(texts, batch_size=len(texts))
    model = transformers.ElectraForPreTraining.from_pretrained(path).eval()

    def answer(texts: list[str]) -> object:
        inputs = tokenizer(
            texts, padding=True, truncation=True, return_tensors="pt", return_offsets_mapping=True
        )
        offsets = inputs.pop("offset_mapping")
        with torch.inference_mode():
            probabilities = torch.sigmoid(model(**inputs).logits).numpy()
        tokens = [tokenizer.convert_ids_to_tokens(row) for row in inputs["input_ids"]]
        return tokens, offsets, probabilities

    return answer


def load(name: str, directory: Path, threads: int) -> Answer:
    if name == "export":
        return load_export(directory, threads, "serving_default")
    if name == "export_vectors":
        return load_export(directory, threads, "embed_tokens")
    if name == "predict":
        return load_predict(directory, threads)
    if name == "keras":
        return load_keras(directory, threads)
    return load_huggingface(directory, threads, name == "hf_pipeline")


def serve(name: str, directory: Path, threads: int) -> None:
    """Measures the cells that stand on the standard input; the worker's side."""
    answer = load(name, directory, threads)
    print("ready", flush=True)
    for line in sys.stdin:
        cell = json.loads(line)
        draw = random.Random(0)
        words = [w for w in (directory / "model/vocab.txt").read_text().splitlines() if w.isalpha()]
        requests = [
            [" ".join(draw.choices(words, k=WORDS[cell["text"]])) for _ in range(cell["batch"])]
            for _ in range(64)
        ]
        print(json.dumps(measure(answer, requests, cell["callers"], cell["seconds"])), flush=True)


def measure(
    answer: Answer, requests: list[list[str]], callers: int, seconds: float
) -> dict[str, float]:
    for request in requests[:3]:  # graphs, caches, memory
        answer(request)
    times: list[float] = []
    end = time.perf_counter() + seconds

    def call(first: int) -> None:
        for request in itertools.cycle(requests[first:] + requests[:first]):
            begin = time.perf_counter()
            answer(request)
            now = time.perf_counter()
            times.append(now - begin)
            if now > end:
                return

    begin = time.perf_counter()
    threads = [threading.Thread(target=call, args=(i * 7 % 64,)) for i in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begin
    times.sort()
    result = {
        f"p{q}_ms": 1e3 * times[min(len(times) - 1, len(times) * q // 100)] for q in (50, 95, 99)
    }
    result["texts_per_second"] = len(times) * len(requests[0]) / elapsed
    result["calls"] = len(times)
    # Not getrusage, which counts what the parent had when it forked.
    status = Path("/proc/self/status").read_text()
    result["peak_memory_mb"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return result


# --- The run -------------------------------------------------------------------------------------


def random_model(size: str, directory: Path) -> None:
    """Writes a model of a preset's sizes with random weights, and a made-up vocabulary of 30,522."""
    import numpy as np

    from electra_keras.interop import model_directory
    from electra_keras.interop.weights import ModelWeights, variable_shapes
    from electra_keras.options import ModelOptions
    from electra_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary

    letters = "abcdefghijklmnopqrstuvwxyz"
    parts = ["".join(p) for n in (1, 2, 3) for p in itertools.product(letters, repeat=n)]
    tokens = [*SPECIAL_TOKENS, *parts, *(f"##{part}" for part in parts)][:30_522]
    vocabulary = Vocabulary(tuple(tokens))
    config = ModelOptions(model_size=size).resolve(
        vocab_size=len(tokens), max_seq_length=128, lower_case=True, strip_accents=True,
        **{k: v for k, v in vocabulary.special_ids().items() if k != "pad_token_id"},
    )  # fmt: skip
    rng = np.random.default_rng(0)
    weights = {
        path: rng.normal(1.0 if path.endswith("gamma") else 0.0, 0.02, shape).astype(np.float32)
        for path, shape in variable_shapes(config).items()
    }
    directory.mkdir()
    model_directory.write(ModelWeights(config, vocabulary, weights), directory)


def is_finetuned(model_dir: Path) -> bool:
    return (model_dir / "task.json").exists()


def prepare(model_dir: str | None, size: str, directory: Path) -> None:
    """Puts the same weights into `directory` as model, export and, if pre-trained, Hugging Face's."""
    if model_dir:
        (directory / "model").symlink_to(Path(model_dir).resolve())
    else:
        random_model(size, directory / "model")
    model, export, other = (directory / name for name in ("model", "export", "huggingface"))
    commands = [
        ("export", f"--model_dir={model}", f"--export_dir={export}"),
        ("convert", f"--input={model}", "--to=huggingface", f"--output={other}"),
    ]
    for module, *flags in commands[:1] if is_finetuned(model) else commands:
        command = [sys.executable, "-m", f"electra_keras.{module}", *flags]
        subprocess.run(command, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_dir", help="default: random weights of --size")
    parser.add_argument("--size", default="small", help="tiny, small, base or large")
    parser.add_argument("--seconds", type=float, default=2, help="of each cell and contender")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--contenders", help="default: all that there are for the model")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--callers", default=",".join(map(str, CALLERS)))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    there = CONTENDERS
    if args.model_dir and is_finetuned(Path(args.model_dir)):
        there = CONTENDERS_FINETUNED
    names = (args.contenders or ",".join(there)).split(",")
    if not args.worker and not set(names) <= set(there):
        parser.error(f"--contenders: choose from {', '.join(there)}")
    if args.worker:
        return serve(args.worker, args.directory, args.threads)
    with tempfile.TemporaryDirectory() as directory:
        prepare(args.model_dir, args.size, Path(directory))
        compare(args, names, Path(directory))


def compare(args: argparse.Namespace, names: list[str], directory: Path) -> None:
    """Runs all cells on all contenders, and prints what was measured."""
    # PyTorch's idle threads would otherwise spin on the cores that the next contender needs.
    environment = os.environ | {
        "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3",
        "TOKENIZERS_PARALLELISM": "true", "TRANSFORMERS_VERBOSITY": "error",
    }  # fmt: skip
    command = [sys.executable, __file__, f"--directory={directory}", f"--threads={args.threads}"]
    workers = {
        name: subprocess.Popen(
            [*command, f"--worker={name}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )
        for name in names
    }  # fmt: skip
    for worker in workers.values():  # none may load while another is measured
        assert worker.stdout.readline() == "ready\n"
    memory = {}
    numbers = [[int(v) for v in values.split(",")] for values in (args.batches, args.callers)]
    for text, batch, callers in itertools.product(WORDS, *numbers):
        cell = {"text": text, "batch": batch, "callers": callers}
        rates = {}
        for name, worker in workers.items():
            worker.stdin.write(json.dumps(cell | {"seconds": args.seconds}) + "\n")
            worker.stdin.flush()
            result = json.loads(worker.stdout.readline())
            memory[name] = result.pop("peak_memory_mb")
            rates[name] = result["p50_ms"]
            rounded = {key: round(value, 2) for key, value in result.items()}
            print(json.dumps(cell | {"contender": name} | rounded), flush=True)
        ratios = {n: round(rates[n] / rates["export"], 2) for n in rates if "export" in rates}
        print(json.dumps(cell | {"p50_relative_to_export": ratios}), flush=True)
    print(json.dumps({"peak_memory_mb": {name: round(value) for name, value in memory.items()}}))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    main()
