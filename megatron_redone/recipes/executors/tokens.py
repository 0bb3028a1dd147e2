"""Tokenizer and tokens of a corpus."""

from __future__ import annotations

from megatron_redone.curation.held_out import HeldOutSources
from megatron_redone.curation.tokens.config import TokenizeConfig
from megatron_redone.curation.tokens.corpus_texts import CorpusTexts
from megatron_redone.curation.tokens.tokenize import tokenize
from megatron_redone.data.text_files import corpus_files
from megatron_redone.data.tokenizer import train_sentencepiece
from megatron_redone.recipes import data_stages as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.recipes.executors.held_out import held_out_files


def run_tokenizer(execution: Execution) -> None:
    """A SentencePiece model of the corpus."""
    config = execution.config(kinds.TokenizerStage)
    texts = CorpusTexts(execution.input_path("corpus"), config, execution.max_refused_share)
    tokenizer = train_sentencepiece(texts, execution.work, config.vocab_size, execution.seed, config.max_sentences)
    execution.refused += texts.refused
    execution.counts.update(vocab_size=tokenizer.vocab_size, documents=texts.num_documents)


def run_tokenize(execution: Execution) -> None:
    """The corpus as token ids."""
    config = execution.config(kinds.TokenizeStage)
    own = TokenizeConfig(**{name: getattr(config, name) for name in TokenizeConfig.model_fields})
    done = tokenize(
        own,
        execution.input_path("corpus"),
        execution.model_folder("tokenizer"),
        execution.work,
        execution.max_refused_share,
        execution.run.id,
        _held_out(execution, config),
    )
    execution.counts.update(done.counts)
    execution.refused += done.refused


def _held_out(execution: Execution, config: kinds.TokenizeStage) -> HeldOutSources | None:
    corpus = execution.input_path("corpus")
    files = held_out_files(execution, config.held_out, config.held_out_rows, corpus, corpus_files(corpus))
    return HeldOutSources(tuple(files), config.held_out) if files else None
