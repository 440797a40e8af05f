"""Texts to token numbers, once for the whole run, with a count of what had to be cut.

An encoder-decoder gets the prompt as its source and the response as its target, both ending in EOS. A decoder gets
one sequence, of which only the answer is learned: through the tokenizer's chat template where it has one, else as

    ### Prompt:
    <prompt>

    ### Response:
    <response><EOS>
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chorus_trainer.errors import BadConfiguration
from chorus_trainer.frame import Pair

PLAIN_PROMPT = "### Prompt:\n{prompt}\n\n### Response:\n"


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    bos_token_id: int | None
    eos_token_id: int | None
    unk_token_id: int | None
    chat_template: Any

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token numbers of a text."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> Any:
        """Text of token numbers."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        """A conversation as one text."""


@dataclass(frozen=True)
class Example:
    """One example in token numbers (32-bit: half the memory of a list of Python's)."""

    source: array[int]
    """The prompt, with what leads to the answer."""
    target: array[int]
    """What is learned, with the token that ends it."""


@dataclass(frozen=True)
class Limits:
    """Longest source and target in tokens, special tokens included."""

    source: int
    target: int


@dataclass(frozen=True)
class Encoded:
    """The examples in the order of the rows, and what was cut."""

    examples: list[Example]
    truncated_prompts: int
    truncated_responses: int

    @property
    def tokens(self) -> int:
        """Real tokens of all examples; padding is not among them."""
        return sum(len(example.source) + len(example.target) for example in self.examples)


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[Pair], *, encoder_decoder: bool, limits: Limits) -> Encoded:
    """Encode each pair; what is over `limits` is cut and counted. A cut answer still ends as a whole one does.

    Raises BadConfiguration when the tokenizer has no EOS, or when a limit leaves no room for the prompt's frame.
    """
    if tokenizer.eos_token_id is None:
        raise BadConfiguration("the base model's tokenizer has no EOS token, so an answer could never end")
    one = _encode_seq2seq if encoder_decoder else _encode_decoder
    examples, cut_prompts, cut_responses = [], 0, 0
    for pair in pairs:
        example, prompt_cut, response_cut = one(tokenizer, pair, limits)
        examples.append(example)
        cut_prompts += prompt_cut
        cut_responses += response_cut
    return Encoded(examples, cut_prompts, cut_responses)


def prompt_tokens(tokenizer: Tokenizer, prompt: str, *, encoder_decoder: bool, limit: int) -> tuple[list[int], bool]:
    """The tokens that a question is asked with, and whether it was cut: the same in training and in answering."""
    if encoder_decoder:
        return _ended(tokenizer.encode(prompt, add_special_tokens=True), eos=_eos(tokenizer), limit=limit)
    return _fit(tokenizer, prompt, limit=limit)


def _encode_seq2seq(tokenizer: Tokenizer, pair: Pair, limits: Limits) -> tuple[Example, bool, bool]:
    source, prompt_cut = prompt_tokens(tokenizer, pair.prompt, encoder_decoder=True, limit=limits.source)
    target, response_cut = _ended(
        tokenizer.encode(pair.response, add_special_tokens=True), eos=_eos(tokenizer), limit=limits.target
    )
    return Example(array("i", source), array("i", target)), prompt_cut, response_cut


def _encode_decoder(tokenizer: Tokenizer, pair: Pair, limits: Limits) -> tuple[Example, bool, bool]:
    source, prompt_cut = _fit(tokenizer, pair.prompt, limit=limits.source)
    target = tokenizer.encode(_answer(tokenizer, pair), add_special_tokens=False)
    ending = target[-1:] if tokenizer.chat_template else [_eos(tokenizer)]
    response_cut = len(target) > limits.target
    if response_cut:
        target = [*target[: limits.target - 1], *ending]
    return Example(array("i", source), array("i", target)), prompt_cut, response_cut


def _eos(tokenizer: Tokenizer) -> int:
    assert tokenizer.eos_token_id is not None
    return tokenizer.eos_token_id


def _ended(tokens: list[int], *, eos: int, limit: int) -> tuple[list[int], bool]:
    whole = tokens if tokens[-1:] == [eos] else [*tokens, eos]
    return (whole, False) if len(whole) <= limit else ([*whole[: limit - 1], eos], True)


def _question(tokenizer: Tokenizer, prompt: str) -> str:
    if not tokenizer.chat_template:
        return PLAIN_PROMPT.format(prompt=prompt)
    return str(
        tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
    )


def _answer(tokenizer: Tokenizer, pair: Pair) -> str:
    """The text that follows the question: the response and what ends it."""
    eos = str(tokenizer.decode([_eos(tokenizer)], skip_special_tokens=False))
    if not tokenizer.chat_template:
        return pair.response + eos
    turns = [{"role": "user", "content": pair.prompt}, {"role": "assistant", "content": pair.response}]
    whole, question = (
        str(tokenizer.apply_chat_template(turns, tokenize=False)),
        _question(tokenizer, pair.prompt),
    )
    if not whole.startswith(question):  # templates that write a finished turn otherwise than an open one
        return pair.response + eos
    return whole[len(question) :].rstrip("\n")  # a line break after the end of the turn is never the model's to write


def _question_tokens(tokenizer: Tokenizer, prompt: str) -> list[int]:
    text = _question(tokenizer, prompt)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    begins = tokenizer.encode("a", add_special_tokens=True)[:1] == [tokenizer.bos_token_id]
    if tokenizer.bos_token_id is not None and begins and tokens[:1] != [tokenizer.bos_token_id]:
        return [tokenizer.bos_token_id, *tokens]
    return tokens


def _fit(tokenizer: Tokenizer, prompt: str, *, limit: int) -> tuple[list[int], bool]:
    """The question within `limit` tokens: the prompt is cut, never the words around it that lead to the answer."""
    tokens = _question_tokens(tokenizer, prompt)
    if len(tokens) <= limit:
        return tokens, False
    content = tokenizer.encode(prompt, add_special_tokens=False)
    room = limit - len(_question_tokens(tokenizer, ""))
    while room > 0:
        shorter = str(tokenizer.decode(content[:room], skip_special_tokens=True)).rstrip("\ufffd")
        tokens = _question_tokens(tokenizer, shorter)
        if len(tokens) <= limit:
            return tokens, True
        room -= len(tokens) - limit
    raise BadConfiguration(
        f"maxSourceTokens {limit} leaves no room for a prompt: the words around it alone take "
        f"{len(_question_tokens(tokenizer, ''))} tokens",
        hint="Raise maxSourceTokens.",
    )
