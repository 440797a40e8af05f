"""What becomes of texts: one token a character here, so that every cut can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_trainer.encode import Encoded, Limits, encode_pairs
from chorus_trainer.errors import BadConfiguration
from chorus_trainer.frame import Pair

BOS, EOS = "\ue000", "\ue001"


class Letters:
    """A tokenizer of single characters; `chat` gives it a template, `bos` a token to begin with."""

    unk_token_id = None

    def __init__(self, *, chat: bool = False, bos: bool = False, eos: bool = True) -> None:
        self.chat_template = "yes" if chat else None
        self.bos_token_id = ord(BOS) if bos else None
        self.eos_token_id = ord(EOS) if eos else None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        begin = [self.bos_token_id] if add_special_tokens and self.bos_token_id is not None else []
        return [*begin, *(ord(letter) for letter in text)]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return "".join(chr(number) for number in token_ids)

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> str:
        text = "".join(f"<{turn['role'][0]}>{turn['content']}{EOS}\n" for turn in conversation)
        return text + ("<a>" if options.get("add_generation_prompt") else "")


def _one(encoded: Encoded) -> tuple[str, str]:
    (example,) = encoded.examples
    return "".join(map(chr, example.source)), "".join(map(chr, example.target))


def _encode(tokenizer: Letters, pair: Pair, *, seq2seq: bool = False, source: int = 99, target: int = 99) -> Encoded:
    return encode_pairs(tokenizer, [pair], encoder_decoder=seq2seq, limits=Limits(source=source, target=target))


def test_an_encoder_decoder_gets_both_texts_with_eos() -> None:
    assert _one(_encode(Letters(), Pair("ask", "tell"), seq2seq=True)) == (f"ask{EOS}", f"tell{EOS}")


def test_a_decoder_without_a_chat_template_gets_the_documented_prompt() -> None:
    source, target = _one(_encode(Letters(), Pair("ask", "tell")))
    assert source == "### Prompt:\nask\n\n### Response:\n"
    assert target == f"tell{EOS}"


def test_a_decoder_with_a_chat_template_learns_the_answer_and_the_end_of_its_turn() -> None:
    source, target = _one(_encode(Letters(chat=True), Pair("ask", "tell")))
    assert (source, target) == (f"<u>ask{EOS}\n<a>", f"tell{EOS}")


def test_a_sequence_begins_as_the_tokenizer_begins_every_sequence() -> None:
    source, _ = _one(_encode(Letters(chat=True, bos=True), Pair("ask", "tell")))
    assert source == f"{BOS}<u>ask{EOS}\n<a>"


def test_a_long_prompt_is_cut_and_the_words_around_it_stay() -> None:
    encoded = _encode(Letters(chat=True), Pair("abcdefghij", "tell"), source=12)
    assert _one(encoded)[0] == f"<u>abcd{EOS}\n<a>"
    assert (encoded.truncated_prompts, encoded.truncated_responses) == (1, 0)


def test_a_cut_answer_still_ends() -> None:
    for tokenizer in (Letters(), Letters(chat=True)):
        encoded = _encode(tokenizer, Pair("ask", "abcdefghij"), target=4)
        assert _one(encoded)[1] == f"abc{EOS}"
        assert (encoded.truncated_prompts, encoded.truncated_responses) == (0, 1)
    assert _one(_encode(Letters(), Pair("abcdefgh", "ok"), seq2seq=True, source=4))[0] == f"abc{EOS}"


def test_what_just_fits_is_not_cut() -> None:
    encoded = _encode(Letters(), Pair("abc", "abc"), seq2seq=True, source=4, target=4)
    assert (encoded.truncated_prompts, encoded.truncated_responses) == (0, 0)


def test_a_limit_without_room_for_a_prompt_names_the_parameter() -> None:
    with pytest.raises(BadConfiguration, match="maxSourceTokens 5 leaves no room"):
        _encode(Letters(chat=True), Pair("abc", "x"), source=5)


def test_a_tokenizer_without_an_end_is_refused() -> None:
    with pytest.raises(BadConfiguration, match="no EOS token"):
        _encode(Letters(eos=False), Pair("a", "b"))


@given(
    prompt=st.text(max_size=60),
    response=st.text(max_size=60),
    chat=st.booleans(),
    seq2seq=st.booleans(),
    source=st.integers(35, 60),
    target=st.integers(1, 40),
)
def test_nothing_is_ever_longer_than_its_limit_and_every_answer_ends(
    prompt: str, response: str, chat: bool, seq2seq: bool, source: int, target: int
) -> None:
    encoded = _encode(Letters(chat=chat), Pair(prompt, response), seq2seq=seq2seq, source=source, target=target)
    (example,) = encoded.examples
    assert 1 <= len(example.source) <= source
    assert 1 <= len(example.target) <= target
    assert example.target[-1] == ord(EOS)
    assert encoded.tokens == len(example.source) + len(example.target)
