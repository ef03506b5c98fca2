import json
import random
from pathlib import Path

import numpy as np
import pytest

from data_tools.example_builder import ExampleBuilder
from data_tools.part_builder import Options, PartBuilder

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/build_examples.json").read_text())


def bert_like_vocabulary(path):
    """A file whose special tokens have the ids of BERT's vocabulary, which the golden ids use."""
    tokens = [f"t{i}" for i in range(30522)]
    tokens[0] = "[PAD]"
    tokens[100:104] = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    path.write_text("\n".join(tokens))
    return str(path)


def build(lines, max_seq_length, seed, drop_overflow):
    builder = ExampleBuilder(max_seq_length, random.Random(seed), drop_overflow)
    examples = []
    for ids in lines:
        examples += builder.add_line(ids) if ids else builder.end_document()
    return examples + builder.end_document()


@pytest.mark.parametrize("run", GOLDEN["runs"], ids=lambda r: f"{r['seed']}-{r['max_seq_length']}")
def test_drop_overflow_equals_the_original(run, tmp_path):
    length = run["max_seq_length"]
    examples = build(GOLDEN["lines"], length, run["seed"], drop_overflow=True)
    assert len(examples) == len(run["examples"]) > 50
    options = Options(
        bert_like_vocabulary(tmp_path / "v"), length, True, None, True, True, 0.0, 0, False
    )
    ids, mask, segments = PartBuilder(options, str(tmp_path)).pack(examples)
    for row, (first_length, expected) in enumerate(run["examples"]):
        padding = [0] * (length - len(expected))
        assert ids[row].tolist() == expected + padding
        assert mask[row].astype(int).tolist() == [1] * len(expected) + padding
        second_length = len(expected) - first_length
        expected_segments = [0] * first_length + [1] * second_length + padding
        assert segments[row].astype(int).tolist() == expected_segments


@pytest.mark.parametrize("max_seq_length", [8, 9, 64, 128])
@pytest.mark.parametrize("line_lengths", [(1, 40), (200, 900), (1, 3), (60, 61)])
def test_without_it_no_token_is_lost_or_moved(max_seq_length, line_lengths):
    rng = random.Random(1)
    lines, number = [], 0
    for _ in range(300):
        count = rng.randint(*line_lengths)
        lines.append(list(range(number, number + count)))
        number += count
    examples = build(lines, max_seq_length, 3, drop_overflow=False)
    assert [t for e in examples for t in e.first + e.second] == list(range(number))
    lengths = [len(e.first) + len(e.second) + 2 + bool(e.second) for e in examples]
    assert max(lengths) <= max_seq_length
    assert all(e.first for e in examples)


def test_documents_share_no_example():
    lines = [[1] * 30, [1] * 30, [], [2] * 30, [], [], [3] * 500]
    for example in build(lines, 64, 0, drop_overflow=False):
        assert len(set(example.first + example.second)) == 1


@pytest.mark.parametrize("line_length", [20, 1000])
def test_shares_of_one_segment_and_of_short_examples(line_length):
    examples = build([list(range(line_length))] * (600_000 // line_length), 128, 0, False)
    one_segment = np.mean([not e.second for e in examples])
    assert one_segment == pytest.approx(0.1, abs=0.02)
    short = np.mean([len(e.first) + len(e.second) < 100 for e in examples])
    assert short < 0.05
