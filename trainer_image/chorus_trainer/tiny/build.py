"""Tokenizers and untrained models of a size that a minute on one core can teach something."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from chorus_trainer.tiny.texts import SENTINEL, SENTINELS

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
TURN, TURN_END = "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """Size of a model."""

    vocabulary: int = 3000
    width: int = 128
    layers: int = 3
    heads: int = 4


def t5_tokenizer(texts: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (nothing is unknown to it) with T5's special tokens; every text ends in `</s>`."""
    sentinels = [SENTINEL.format(number) for number in range(SENTINELS)]
    tokenizer = _byte_pairs(texts, vocabulary=vocabulary, special=[PAD, END, UNKNOWN, *sentinels])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))]),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, extra_special_tokens=sentinels
    )


def decoder_tokenizer(texts: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the tokens of a chat and a template for it."""
    tokenizer = _byte_pairs(texts, vocabulary=vocabulary, special=[PAD, TURN, TURN_END])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=TURN_END,
        extra_special_tokens=[TURN],
        chat_template=CHAT_TEMPLATE,
    )


def _byte_pairs(texts: Iterable[str], *, vocabulary: int, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def t5(tokenizer: PreTrainedTokenizerFast, shape: Shape) -> PreTrainedModel:
    """An untrained T5 (1.8 million parameters by default) for `tokenizer`."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=shape.width,
        d_kv=shape.width // shape.heads,
        d_ff=4 * shape.width,
        num_layers=shape.layers,
        num_decoder_layers=shape.layers,
        num_heads=shape.heads,
        dropout_rate=0.1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.decoder_start_token_id = tokenizer.pad_token_id
    return T5ForConditionalGeneration(config)


def decoder(tokenizer: PreTrainedTokenizerFast, shape: Shape) -> PreTrainedModel:
    """An untrained decoder of Mistral's kind (1.2 million parameters by default) for `tokenizer`.

    Of Mistral's, because AutoTokenizer reads the tokenizer of that kind from its file as it is; for Qwen2 or Llama it
    takes a class of its own, which splits text in another way than the one that is trained here.
    """
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.width,
            intermediate_size=3 * shape.width,
            num_hidden_layers=shape.layers + 1,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads // 2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            sliding_window=None,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
