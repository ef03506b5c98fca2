import gzip
import json

import pytest

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.data.examples import QuestionExample, hold_out
from electra_keras.tasks.data.files import find_split
from electra_keras.tasks.data.question_answering import (
    EXTENSIONS,
    article,
    gold_articles,
    read_questions,
    training_questions,
)
from electra_keras.tasks.metrics.squad import evaluate_v1, evaluate_v2

CONTEXT = "Café Łódź \U0001f600 opened in 1990. In 1990 it was new."


def question(answers=(), identity="q1", **others):
    answers = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": identity, "question": "Which?", "answers": answers, **others}


def squad_file(tmp_path, *questions, context=CONTEXT, name="dev-v1.1.json"):
    paragraphs = [{"context": context, "qas": list(questions)}]
    data = {"version": "1.1", "data": [{"title": "Cafés", "paragraphs": paragraphs}]}
    (tmp_path / name).write_text(json.dumps(data), encoding="utf-8")
    return str(tmp_path / name)


def test_squad_1(tmp_path):
    path = squad_file(tmp_path, question([("Łódź", 5), ("1990", 22), ("1990", 31)]))
    expected = QuestionExample(
        id="q1",
        question="Which?",
        context=CONTEXT,
        answers=(("Łódź", 5), ("1990", 22), ("1990", 31)),
        gold=("Łódź", "1990", "1990"),
        title="Cafés",
    )
    assert read_questions(path) == [expected]
    for text, start in expected.answers:
        assert CONTEXT[start : start + len(text)] == text


def test_squad_2(tmp_path):
    path = squad_file(
        tmp_path,
        question([("1990", 22)], "yes", is_impossible=False),
        question(
            [], "no", is_impossible=True, plausible_answers=[{"text": "x", "answer_start": 0}]
        ),
    )
    yes, no = read_questions(path)
    assert (yes.answers, yes.gold, yes.is_impossible) == ((("1990", 22),), ("1990",), False)
    assert (no.answers, no.gold, no.is_impossible) == ((), (), True)
    assert training_questions([yes, no]) == [yes, no]


def test_questions_to_predict_for_need_no_answers(tmp_path):
    path = squad_file(tmp_path, {"id": "q1", "question": "Which?"})
    assert read_questions(path) == [QuestionExample("q1", "Which?", CONTEXT, title="Cafés")]


@pytest.mark.parametrize(
    ("answer", "repaired"),
    [
        (("Łódź", 6), ("Łódź", 5)),  # once elsewhere
        (("Łódź", -1), ("Łódź", 5)),
        (("new.", -4), ("new.", 43)),  # not counted from the end
        (("opened", 10_000), ("opened", 12)),
        (("1990", 23), None),  # twice
        (("Paris", 5), None),  # nowhere
        (("łódź", 5), None),  # another case is another text
        (("", 5), None),
    ],
)
def test_answers_that_are_not_at_their_offset(tmp_path, caplog, answer, repaired):
    path = squad_file(tmp_path, question([("1990", 22)], "good"), question([answer], "bad"))
    with caplog.at_level("WARNING"):
        good, bad = read_questions(path)
    assert bad.answers == (() if repaired is None else (repaired,))
    assert bad.gold == (answer[0],)
    counts = (
        "0 were found elsewhere, 1 are" if repaired is None else "1 were found elsewhere, 0 are"
    )
    assert f"1 answers are not at their offset: {counts} not trained on" in caplog.text
    assert f"question bad: {answer[0]!r} at {answer[1]}" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert training_questions([good, bad]) == ([good, bad] if repaired else [good])
    assert ("1 of 2 questions are not trained on" in caplog.text) == (repaired is None)


def test_good_files_are_read_without_a_warning(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        training_questions(read_questions(squad_file(tmp_path, question([("1990", 31)]))))
    assert not caplog.text


def test_gold_articles_score_as_the_file_does(tmp_path):
    path = squad_file(
        tmp_path,
        question([("Łódź", 5), ("Łódź \U0001f600", 5)], "a", is_impossible=False),
        question([("lost", 3)], "b", is_impossible=False),
        question([], "c", is_impossible=True),
    )
    with open(path) as file:
        data = json.load(file)["data"]
    predictions = {"a": "Łódź \U0001f600 opened", "b": "lost", "c": "1990"}
    ours = gold_articles(read_questions(path))
    assert evaluate_v2(ours, predictions) == evaluate_v2(data, predictions)
    assert evaluate_v2(ours, predictions)["NoAns_total"] == 1
    path = squad_file(tmp_path, question([("Łódź", 5)], "a"), question([("1990", 0)], "b"))
    scores = evaluate_v1(gold_articles(read_questions(path)), {"a": "Łódź", "b": "x"})
    assert scores["exact_match"] == 50.0


def test_bad_squad_json(tmp_path):
    path = tmp_path / "dev.json"
    path.write_text('{"data": [\n{"title": "x",\n]}')
    with pytest.raises(UserError, match=r"dev\.json, line 3, column 1: bad JSON"):
        read_questions(str(path))
    path.write_bytes(b'{"data":\n"caf\xe9"}')
    with pytest.raises(UserError, match=r"dev\.json, line 2: not UTF-8"):
        read_questions(str(path))
    path.write_text('{"data": "\\ud83d"}')
    with pytest.raises(UserError, match=r"dev\.json: bad JSON: .*surrogates"):
        read_questions(str(path))
    path.write_text('{"data": []}')
    with pytest.raises(UserError, match=r"dev\.json holds no questions"):
        read_questions(str(path))
    path.write_text("[]")
    with pytest.raises(UserError, match=r"dev\.json: expected a JSON object with 'data'"):
        read_questions(str(path))
    path.write_text('{"data": [{"paragraphs": []}, {}]}')
    with pytest.raises(UserError, match=r"dev\.json, article 2: 'paragraphs' is missing"):
        read_questions(str(path))
    path.write_text('{"data": [{"paragraphs": [{"context": "a", "qas": []}, {"qas": []}]}]}')
    with pytest.raises(UserError, match=r"article 1, paragraph 2: 'context' is missing"):
        read_questions(str(path))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"question": "Which?"}, r"article 1, paragraph 1, question 2: 'id' is missing"),
        ({"id": "q7"}, r"question q7: 'question' is missing"),
        ({"id": None, "question": "?"}, r"article 1, paragraph 1, question 2: 'id' is missing"),
        (
            {"id": True, "question": "?"},
            r"article 1, paragraph 1, question 2: 'id' should be a text",
        ),
        (
            {"id": [7], "question": "?"},
            r"article 1, paragraph 1, question 2: 'id' should be a text",
        ),
        ({"id": 7}, r"question 7: 'question' is missing"),
        ({"id": "q7", "question": "?", "answers": {}}, r"question q7: 'answers' should be a list"),
        (
            {"id": "q7", "question": "?", "answers": [{"text": "x"}]},
            r"question q7: 'answer_start' is missing",
        ),
        (
            {"id": "q7", "question": "?", "answers": [{"text": "x", "answer_start": "3"}]},
            r"question q7: 'answer_start' should be an integer",
        ),
        (
            {"id": "q7", "question": "?", "answers": [{"text": "x", "answer_start": True}]},
            r"question q7: 'answer_start' should be an integer",
        ),
        (
            {"id": "q7", "question": "?", "is_impossible": 1},
            r"'is_impossible' should be true or false",
        ),
        ({"id": "q1", "question": "?"}, r"two questions have the id 'q1'"),
    ],
)
def test_bad_squad_questions(tmp_path, bad, message):
    with pytest.raises(UserError, match=rf"dev-v1\.1\.json.*{message}"):
        read_questions(squad_file(tmp_path, question([("1990", 22)]), bad))


def mrqa_file(tmp_path, *qas, header=True, context=CONTEXT, name="x.jsonl.gz"):
    lines = [json.dumps({"header": {"dataset": "SQuAD", "split": "train"}})] if header else []
    lines += [json.dumps({"context": context, "qas": [qa]}) for qa in qas]
    content = "\n".join([*lines, ""]).encode("utf-8")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(tmp_path / name)


def mrqa_question(detected, answers, identity="q1"):
    return {
        "qid": identity,
        "question": "Which?",
        "answers": answers,
        "detected_answers": [
            {"text": text, "char_spans": spans, "token_spans": []} for text, spans in detected
        ],
    }


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl"])
@pytest.mark.parametrize("header", [True, False])
def test_mrqa(tmp_path, name, header):
    qa = mrqa_question(
        [("1990", [[22, 25], [31, 34]]), ("łódź", [[5, 8]])], ["1990", "the year 1990", "Łódź"]
    )
    (example,) = read_questions(mrqa_file(tmp_path, qa, header=header, name=name))
    # Ends are inclusive; the text is the context's.
    assert example.answers == (("1990", 22), ("1990", 31), ("Łódź", 5))
    assert example.gold == ("1990", "the year 1990", "Łódź")
    assert (example.id, example.question, example.context) == ("q1", "Which?", CONTEXT)


def test_mrqa_answers_that_are_not_at_their_offset(tmp_path, caplog):
    path = mrqa_file(
        tmp_path,
        mrqa_question([("opened", [[0, 5]])], ["opened"], "moved"),
        mrqa_question([("1990", [[0, 3]]), ("new", [[43, 45], [900, 902]])], ["1990"], "half"),
    )
    with caplog.at_level("WARNING"):
        moved, half = read_questions(path)
    assert moved.answers == (("opened", 12),)
    assert half.answers == (("new", 43), ("new", 43))
    assert "3 answers are not at their offset: 2 were found elsewhere, 1 are not" in caplog.text
    assert "x.jsonl.gz, line 2, question moved: 'opened' at 0" in caplog.text


@pytest.mark.parametrize(
    ("qa", "message"),
    [
        ({"qid": "a"}, r"line 2, question a: 'question' is missing"),
        ({"question": "?"}, r"line 2, question 1: 'qid' is missing"),
        ({"qid": {}, "question": "?"}, r"line 2, question 1: 'qid' should be a text"),
        (
            mrqa_question([("x", [[3]])], []),
            r"'char_spans' should hold pairs of offsets, not \[3\]",
        ),
        (mrqa_question([("x", [[-1, 3]])], []), r"pairs of offsets, not \[-1, 3\]"),
        (mrqa_question([("x", 3)], []), r"'char_spans' should be a list"),
        (mrqa_question([], [[1]]), r"'answers' should be a list of texts"),
    ],
)
def test_bad_mrqa_questions(tmp_path, qa, message):
    with pytest.raises(UserError, match=rf"x\.jsonl\.gz, .*{message}"):
        read_questions(mrqa_file(tmp_path, qa))


def test_bad_mrqa_files(tmp_path):
    path = mrqa_file(tmp_path, mrqa_question([], []), name="x.jsonl")
    with open(path, "a") as file:
        file.write('{"context": \n')
    with pytest.raises(UserError, match=r"x\.jsonl, line 3, column 13: bad JSON"):
        read_questions(path)
    with pytest.raises(UserError, match=r"x\.jsonl holds no questions"):
        read_questions(mrqa_file(tmp_path, name="x.jsonl"))
    same = mrqa_question([], [])
    with pytest.raises(UserError, match="two questions have the id 'q1'"):
        read_questions(mrqa_file(tmp_path, same, same))


def questions_of(articles, each):
    return [
        QuestionExample(f"{article}-{number}", "?", "text", title=f"article {article}")
        for article in range(articles)
        for number in range(each)
    ]


def test_articles_are_held_out_whole():
    examples = questions_of(20, 5)
    train, held_out = hold_out(examples, 0.25, 3, article)
    assert (len(train), len(held_out)) == (75, 25)
    assert not {example.title for example in train} & {example.title for example in held_out}
    assert hold_out(examples, 0.25, 3, article) == (train, held_out)
    assert hold_out(examples, 0.25, 4, article)[1] != held_out
    with pytest.raises(UsageError, match="leaves none to train on"):
        hold_out(questions_of(1, 5), 0.25, 3, article)


def test_without_titles_contexts_are_held_out_whole():
    examples = [QuestionExample(str(n), "?", f"context {n % 10}") for n in range(50)]
    train, held_out = hold_out(examples, 0.2, 0, article)
    assert len({example.context for example in held_out}) == 2 and len(train) == 40


def test_finding_squad_files(tmp_path):
    for name in ("train-v1.1.json", "dev-v2.0.json"):
        (tmp_path / name).touch()
    assert find_split(str(tmp_path), "train", EXTENSIONS) == str(tmp_path / "train-v1.1.json")
    assert find_split(str(tmp_path), "dev", EXTENSIONS) == str(tmp_path / "dev-v2.0.json")


# --- Whether there is an answer is said twice, or not at all -------------------------------------


@pytest.mark.parametrize(
    ("fields", "impossible", "warning"),
    [
        ({"answers": []}, True, "1 of 2 questions have an empty list of answers, and no is_imp"),
        ({"answers": [], "is_impossible": None}, True, "and no is_impossible"),
        ({"answers": {"text": [], "answer_start": []}}, True, "and no is_impossible"),
        ({"answers": [], "is_impossible": False}, True, "are marked as answerable, but have an"),
        ({"answers": [], "is_impossible": True}, True, ""),
        ({"answers": None, "is_impossible": True}, True, ""),
        ({"is_impossible": True}, True, ""),
        ({"is_impossible": False}, False, ""),
        ({"answers": None}, False, ""),
        ({}, False, ""),
        (
            {"answers": [{"text": "new", "answer_start": 43}], "is_impossible": True},
            False,
            "are marked is_impossible, but have answers",
        ),
        ({"answers": [{"text": "", "answer_start": -1}], "is_impossible": True}, True, ""),
    ],
)
def test_the_list_of_answers_decides(tmp_path, caplog, fields, impossible, warning):
    odd = {"id": "odd", "question": "Which?", **fields}
    with caplog.at_level("WARNING"):
        examples = read_questions(squad_file(tmp_path, question([("1990", 22)], "good"), odd))
    assert [example.is_impossible for example in examples] == [False, impossible]
    said = [record.getMessage() for record in caplog.records if "list decides" in record.message]
    assert len(said) == bool(warning)
    if warning:
        assert warning in said[0] and said[0].endswith("the first is question odd")
    assert len(training_questions(examples)) == 1 + bool(impossible or fields.get("answers"))


def test_what_is_not_trained_on_has_a_reason(tmp_path, caplog):
    path = squad_file(
        tmp_path,
        question([("1990", 22)], "good"),
        question([("Paris", 3)], "lost"),
        {"id": "bare", "question": "?"},
    )
    with caplog.at_level("WARNING"):
        assert len(training_questions(read_questions(path))) == 1
    assert "1 of 3 questions are not trained on: their answer is not found" in caplog.text
    assert "1 of 3 questions are not trained on: nothing is said of their answers" in caplog.text


def test_numbers_and_nulls_of_annotation_tools(tmp_path):
    path = tmp_path / "x.json"
    qa = {"id": 51870, "question": "When?", "answers": [{"text": 1990, "answer_start": 22}]}
    other = {"id": 1.5, "question": "?", "answers": None, "is_impossible": None}
    data = [
        {"title": 7, "paragraphs": []},
        {"title": None, "paragraphs": [{"context": CONTEXT, "qas": [qa, other]}]},
    ]
    path.write_text(json.dumps({"data": data}))
    first, second = read_questions(str(path))
    assert (first.id, first.answers, first.gold) == ("51870", (("1990", 22),), ("1990",))
    assert (first.title, second.id, second.gold) == ("", "1.5", ())
    lines = [mrqa_question([(1990, [[22, 25]])], [1990, "the year"], identity=7)]
    (example,) = read_questions(mrqa_file(tmp_path, *lines))
    assert (example.id, example.answers) == ("7", (("1990", 22),))
    assert example.gold == ("1990", "the year")


# --- A question a line, as the `datasets` package writes SQuAD -----------------------------------


def flat(identity="a", texts=("1990",), starts=(22,), **others):
    answers = {"text": list(texts), "answer_start": list(starts)}
    return {"id": identity, "title": "Cafés", "context": CONTEXT, "question": "When?",
            "answers": answers, **others}  # fmt: skip


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.jsonl.gz"])
@pytest.mark.parametrize("form", ["lines", "list", "data"])
def test_flat_questions(tmp_path, name, form):
    rows = [flat(), flat(7, (), ()), flat(None, ("Łódź", "1990"), (5, 31))]
    if form == "data" and "jsonl" in name:
        return  # SQuAD's own is no list of lines
    text = {
        "lines": lambda: "\n".join(map(json.dumps, rows)) + "\n",
        "list": lambda: json.dumps(rows, indent=1),
        "data": lambda: json.dumps({"version": "x", "data": rows}),
    }[form]().encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    first, second, third = read_questions(str(tmp_path / name))
    assert first == QuestionExample(
        "a", "When?", CONTEXT, (("1990", 22),), ("1990",), title="Cafés"
    )
    assert (second.id, second.is_impossible) == ("7", True)
    assert (third.id, third.answers) == ("2", (("Łódź", 5), ("1990", 31)))


def test_bad_flat_questions(tmp_path):
    path = tmp_path / "x.jsonl"
    for row, message in (
        (flat(starts=(1, 2)), r"question a: 1 texts of answers, but 2 of 'answer_start'"),
        ({"question": "?"}, r"x\.jsonl, line 1: 'context' is missing"),
        (flat(question=None), r"question a: 'question' is missing"),
        (flat(answers="1990"), r"question a: 'answers' should be a list"),
        ([1], r"x\.jsonl, item 1: expected a JSON object with 'context'"),
    ):
        path.write_text(json.dumps(row) + "\n")
        with pytest.raises(UserError, match=message):
            read_questions(str(path))
    path.write_text(json.dumps({"data": []}) + "\n")
    with pytest.raises(UsageError, match=r"named \.json, or with --input_format=json"):
        read_questions(str(path))
    (tmp_path / "x.json").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(UserError, match=r"x\.json, line 2, column 1: bad JSON: Extra data"):
        read_questions(str(tmp_path / "x.json"))
