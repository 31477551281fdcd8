"""Training a byte-level BPE tokenizer with a chat template of plain-text markers."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sawyer.chat import marker_template
from sawyer.recipe import ChatSpec

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, characters: int, chat: ChatSpec, context: int, folder: Path
) -> Any:
    """Train a tokenizer on at most ``characters`` of text and save it in ``folder``.

    Byte-level: every text can be written, there is no unknown token. Digits stand alone, so that numbers are
    spelled the same everywhere (as in Llama).

    Returns:
        The tokenizer as plain transformers loads it from ``folder``.
    """
    # Imported here: only this step needs them, and transformers takes seconds.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_limited(texts, characters), trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, bos)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=context,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=marker_template(chat),
    )
    fast.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def _limited(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text
