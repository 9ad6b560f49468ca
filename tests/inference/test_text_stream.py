"""Text in pieces: whole characters, nothing of a stop string, the same as decoding at once."""

from lilith.inference.text_stream import TextStream
from lilith.tokenizer import ByteTokenizer

TOKENIZER = ByteTokenizer()


def pieces(text, **settings):
    stream = TextStream(TOKENIZER, **settings)
    ids = TOKENIZER.encode(text) if isinstance(text, str) else list(text)
    return [stream.feed([index]) for index in ids] + [stream.finish()], stream


def test_characters_come_whole():
    text = "naïve 東京 🚀 e\u0301"
    found, stream = pieces(text)
    assert "".join(found) == stream.text == text
    assert "\ufffd" not in "".join(found)
    assert found[:4] == ["n", "a", "", "ï"]


def test_a_character_cut_short_is_marked_at_the_end():
    found, _ = pieces("ab🚀".encode()[:-1])
    assert "".join(found) == "ab\ufffd"
    assert found[-1] == "\ufffd"


def test_nothing_of_a_stop_string_is_shown():
    found, stream = pieces("one\nHuman: two", stop=("\nHuman:", "zzz"))
    assert ("".join(found), stream.text, stream.stopped) == ("one", "one", True)
    found, stream = pieces("one\nHumbug", stop=("\nHuman:",))
    assert ("".join(found), stream.stopped) == ("one\nHumbug", False)
    assert found[3:7] == [""] * 4  # held back until it is no beginning of the stop string
    found, _ = pieces("one\nHum", stop=("\nHuman:",))
    assert "".join(found) == "one\nHum"


def test_the_first_stop_string_counts():
    assert pieces("a END b STOP", stop=("STOP", "END"))[1].text == "a "
    assert "".join(pieces("STOP", stop=("STOP",))[0]) == ""


def test_hidden_ids_and_context_are_not_written():
    stream = TextStream(TOKENIZER, hidden=[TOKENIZER.eos_id], context=TOKENIZER.encode("é")[:1])
    assert stream.feed([*TOKENIZER.encode("x"), TOKENIZER.eos_id]) == "x"
