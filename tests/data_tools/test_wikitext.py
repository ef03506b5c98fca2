"""Prose of wikitext: languages, inline templates, what is counted, and pages made to take long."""

import bz2
import collections
import random
import time

import pytest
from absl import flags
from absl.testing import flagsaver

from benchmarks import hostile_pages
from data_tools import extract_wikipedia, sentences, wikitemplates, wikitext
from electra_keras.console import UserError

# One invented paragraph a language; those without a mark write none.
PARAGRAPHS = {
    "Amharic": "እኔ በአዲስ አበባ እኖራለሁ እና በትንሽ የመጻሕፍት መደብር ውስጥ እሠራለሁ።",
    "Arabic": "هل تسكن في المدينة القديمة قرب النهر أم في القرية البعيدة؟",
    "Armenian": "Ես ապրում եմ հին քաղաքում և աշխատում եմ փոքր գրախանութում։".replace("։", "\u0589"),
    "Burmese": "ကျွန်ုပ်သည် မြစ်ကမ်းဘေးရှိ မြို့ဟောင်းတွင် နေထိုင်ပါသည်။",
    "Chinese": "他住在河边的一座老城里。",
    "ellipsis": "He walked through the old market and never came back…",
    "Hindi": "मैं पुराने शहर में रहता हूँ और किताबों की दुकान में काम करता हूँ।",
    "Japanese": "私は川沿いの町に住んでいます。",
    "Khmer": "ខ្ញុំរស់នៅក្នុងទីក្រុងចាស់ក្បែរទន្លេ ហើយធ្វើការនៅហាងសៀវភៅ។",
    "Lao": "ຂ້ອຍຢູ່ໃນເມືອງເກົ່າແຄມແມ່ນ້ຳ ແລະເຮັດວຽກຢູ່ຮ້ານຂາຍປຶ້ມ",
    "Thai": "ฉันอยู่ที่เชียงใหม่และทำงานในร้านหนังสือเล็กๆ ริมแม่น้ำ",
    "Tibetan": "ང་ཚོ་གྲོང་ཁྱེར་རྙིང་པ་ཞིག་ལ་སྡོད་ཀྱི་ཡོད།",
    "Urdu": "میں لاہور کے ایک پرانے محلے میں رہتا ہوں اور سیر کرتا ہوں۔",
}


@pytest.mark.parametrize("language", PARAGRAPHS)
def test_paragraphs_of_all_languages_stay(language):
    text = PARAGRAPHS[language]
    counts = collections.Counter()
    assert wikitext.paragraphs(f"{text}\n\nA caption\n", counts=counts) == [text]
    assert counts == {"paragraphs": 1, "paragraph characters": len("A caption")}


def test_a_paragraph_without_mark_goes_where_its_script_has_one():
    assert wikitext.paragraphs("A caption of a picture that is rather long") == []


@pytest.mark.parametrize(
    ("markup", "shown"),
    [
        ("formatnum:12345", "12345"),
        ("ZAHLENFORMAT:12345", "12345"),
        ("formatnum:{{nowrap|5}}", "5"),
        ("nombre|12345|habitants", "12345 habitants"),
        ("unité|2345|m", "2345 m"),
        ("Unité|2345 m", "2345 m"),
        ("date|3|mai|1911|en musique", "3 mai 1911"),
        ("s|XIX|e", "XIXe siècle"),
        ("XIXe siècle", "XIXe siècle"),
        ("s|12 тыс. км", "12 тыс. км"),
        ("M|5|ul=km", "5 km"),
        ("fmtn|123|habitantes", "123 habitantes"),
        ("convert|5|to|10|km", "5 to 10 km"),
        ("convert|5|km|mi|0", "5 km"),
        ("convert|6|ft|2|in", "6 ft 2 in"),
        ("nowrap|[[Apple (company)|Apple]] pie", "Apple pie"),
        ("lang|grc|λόγος", "λόγος"),
        ("lang-el|λόγος", "λόγος"),
        ("transl|ar|ALA|al-kitāb", "al-kitāb"),
        ("US$|5 million", "US$5 million"),
        ("as of|2014|lc=y", "as of 2014"),
        ("circa|500", "c. 500"),
        ("frac|1|2", "1/2"),
    ],
)
def test_common_inline_templates_show_their_text(markup, shown):
    counts = collections.Counter()
    text = f"The old town has {{{{{markup}}}}} near the wide river."
    assert wikitext.paragraphs(text, counts=counts) == [
        f"The old town has {shown} near the wide river."
    ]
    assert not counts


def test_a_sentence_that_lost_a_word_goes_with_it():
    counts = collections.Counter()
    text = (
        "The first one is a whole sentence.{{sfn|Smith|2001}} The mountain has {{höhe|2345}} and "
        "stands alone. Dr. J. Smith ({{lang-xyz}}; born 1912) saw it{{who|date=May}} in May. "
        "The formula <math>x</math> is lost, too. The last one {{citation needed}} stays."
    )
    assert wikitext.paragraphs(text, counts=counts) == [
        "The first one is a whole sentence. Dr. J. Smith (born 1912) saw it in May. "
        "The last one stays."
    ]
    assert counts["sentences"] == 2
    assert counts["templates"] == 5
    assert wikitext.paragraphs(
        "人口は{{人口|12345}}人である。この町は川の近くにあり、市場がある。"
    ) == ["この町は川の近くにあり、市場がある。"]
    # What stands before a sentence or in a line of its own was no word of it.
    assert wikitext.paragraphs(
        "{{box\n|a={{b}}\n{|\n|-\n|}\n}}'''iPhone''' is a telephone of Apple."
    ) == ["iPhone is a telephone of Apple."]


def test_sentences_split_in_doubt_not():
    text = 'Dr. J. Smith came. "Stay!" he said. It cost 5.50 in the U.S. today. 他来了。我们走。'
    assert list(sentences.split(text)) == [
        "Dr. J. Smith came. ",
        '"Stay!" he said. ',
        "It cost 5.50 in the U.S. today. ",
        "他来了。",
        "我们走。",
    ]
    assert sentences.weight("ab字") == 5
    assert wikitemplates.shown("unknown|5") is None


@pytest.mark.parametrize("name", hostile_pages.SHAPES_OF_PAGES)
def test_hostile_pages_take_linear_time(name):
    # Quadratic patterns took more than four seconds for this, linear ones take a tenth of one.
    page = hostile_pages.SHAPES_OF_PAGES[name](60_000)
    started = time.process_time()
    wikitext.paragraphs(page)
    wikitext.is_redirect(page)
    assert time.process_time() - started < 2


def test_any_markup_is_read():
    pieces = [
        "{{",
        "}}",
        "[[",
        "]]",
        "{|",
        "|}",
        "\n",
        "|",
        "<ref>",
        "</ref>",
        "<!--",
        "a.",
        " ",
        "=",
    ]
    random_numbers = random.Random(1)
    for _ in range(2000):
        text = "".join(random_numbers.choices(pieces, k=40))
        assert "\x01" not in "".join(wikitext.paragraphs(text))


@pytest.mark.parametrize("encoding", ["utf-7", "utf-32", "nonsense"])
def test_a_dump_in_another_encoding_is_one_error(encoding, tmp_path):
    dump = tmp_path / "d.xml.bz2"
    dump.write_bytes(
        bz2.compress(f'<?xml version="1.0" encoding="{encoding}"?><mediawiki/>'.encode())
    )
    flags.FLAGS.mark_as_parsed()
    with (
        flagsaver.flagsaver(dump=str(dump), output=str(tmp_path / "d.txt")),
        pytest.raises(UserError, match="no complete MediaWiki XML dump"),
    ):
        extract_wikipedia.main()
    assert [path.name for path in tmp_path.iterdir()] == ["d.xml.bz2"]


def test_what_was_left_out_is_told(tmp_path, caplog):
    page = "<page><title>T</title><ns>0</ns><revision><text>{}</text></revision></page>".format
    dump, output = tmp_path / "d.xml.bz2", tmp_path / "d.txt"
    good, lost = PARAGRAPHS["Hindi"], "The mountain has {{höhe|2345}} and stands alone here."
    xml = f"<mediawiki>{page(good)}{page(good + chr(10) * 2 + lost)}</mediawiki>"
    dump.write_bytes(bz2.compress(xml.encode()))
    counts = extract_wikipedia.extract(str(dump), str(output), 50)
    assert output.read_text() == f"{good}\n\n{good}\n"
    assert (counts["articles"], counts["sentences"], counts["templates"]) == (2, 1, 1)
    with pytest.raises(UserError, match="of its 2 articles the longest counts 65"):
        extract_wikipedia.extract(str(dump), str(output), 500)
    assert "1 sentences that lost one" in caplog.text
