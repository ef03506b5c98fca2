"""Texts that tests ask exports about, and what their inputs are padded to."""

BUCKETS = [8, 16, 32]
TEXTS = [
    "The cat sat on the mat.",
    "",
    "Naïve café, ΌΣΟΣ: 中文字 \U0001f600 x",
    b"\xff\xfebroken \xc3( bytes \x00 and a nul",
    "one two three " * 40,
    " \t\n ",
]
