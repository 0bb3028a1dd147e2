"""Settings of `redone curate filter`. Imports no torch and no datatrove."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from pydantic import Field

from megatron_redone.config.artefact import Artefact
from megatron_redone.config.base import StrictModel

PIIKind = Literal["email", "phone", "identity_card", "bank_card"]
PII_KINDS: tuple[PIIKind, ...] = get_args(PIIKind)


class EncodingRules(StrictModel):
    """Text that was damaged on its way. Control characters are always taken out."""

    max_replacement_share: float = Field(0.0, ge=0, le=1)
    """Largest share of characters that are U+FFFD, the mark of bytes that no decoder could read."""
    max_control_share: float = Field(0.01, ge=0, le=1)
    """Largest share of control characters (tab and line ends are none); below it they are taken out."""
    max_mojibake_share: float = Field(0.02, ge=0, le=1)
    """Largest share of characters that look like a text read in a wrong encoding: UTF-8 read as Latin-1 or
    Windows-1252 (judged by ftfy) or as GBK, and the traces that such readings leave."""


class HTMLRules(StrictModel):
    """Remains of markup."""

    action: Literal["strip", "drop", "keep"] = "strip"
    """`strip` takes tags, comments, scripts and styles out and decodes entities; `drop` drops a text with more than
    `max_tags`."""
    max_tags: int = Field(3, ge=0)
    """With `drop`: tags and entities that a text may have."""
    max_markup_share: float = Field(0.6, gt=0, le=1)
    """With `strip`: a text that loses more than this share of its characters was a page, not a text, and is dropped."""


class LengthRules(StrictModel):
    """Length in units: a word, or one Han or kana character."""

    min_units: int = Field(5, ge=0)
    """Shorter texts are dropped."""
    max_units: int = Field(100_000, ge=1)
    """Longer texts are dropped."""

    def rule_violations(self) -> Iterator[str]:
        """The bounds stand in order."""
        if self.min_units > self.max_units:
            yield f"min_units={self.min_units} is above max_units={self.max_units}; swap them"


class ContentRules(StrictModel):
    """What a text consists of."""

    max_symbol_share: float = Field(0.3, ge=0, le=1)
    """Largest share of characters, spaces left out, that are neither letters nor digits nor usual punctuation (emoji,
    box drawing, `#`, `|`)."""
    max_url_share: float = Field(0.5, ge=0, le=1)
    """Largest share of characters that belong to web addresses."""


class RepetitionRules(StrictModel):
    """Text that says the same again. A line or sentence counts as repeated from its second time on."""

    max_line_share: float = Field(0.3, ge=0, le=1)
    """Largest share of characters in repeated lines."""
    max_sentence_share: float = Field(0.3, ge=0, le=1)
    """Largest share of characters in repeated sentences."""
    max_ngram_share: float = Field(0.3, ge=0, le=1)
    """Largest share of n-grams that stood in the text before."""
    ngram_words: int = Field(5, ge=1)
    """Words of an n-gram."""
    ngram_characters: int = Field(8, ge=1)
    """Characters of an n-gram where most units are Han or kana characters: about five words."""
    min_units: int = Field(16, ge=2)
    """In shorter texts only one unit, four times and more with nothing else, counts as repetition: who says "good
    night" twice does not repeat."""


class LanguageRules(StrictModel):
    """Language by py3langid."""

    keep: tuple[str, ...] = ("zh", "en")
    """Two-letter codes of the languages to keep; empty keeps all and does not look."""
    min_confidence: float = Field(0.5, ge=0, le=1)
    """A language that is told with less probability is unclear."""
    unclear: Literal["script", "drop"] = "script"
    """What becomes of unclear texts: judged by script (Han is `zh`, Latin letters are `en`), or dropped. Slang and
    names are unclear to the identifier more often than other languages are."""
    min_letters: int = Field(20, ge=0)
    """Texts with fewer letters are judged by their script: the identifier guesses where there is little to see. A Han
    or kana character counts as four letters."""

    def rule_violations(self) -> Iterator[str]:
        """Codes look like codes."""
        for code in self.keep:
            if not (code.isascii() and code.isalpha() and code.islower() and 2 <= len(code) <= 3):
                yield f"keep={list(self.keep)!r}: {code!r} is no language code; use codes like zh, en"


class PIIRules(StrictModel):
    """Private data that is masked; the text stays."""

    mask: tuple[PIIKind, ...] = PII_KINDS
    """Kinds to mask. Each becomes `<EMAIL>`, `<PHONE>`, `<IDENTITY_CARD>` or `<BANK_CARD>`."""
    phone_regions: tuple[str, ...] = ("CN", "US")
    """Countries whose numbers are found without a country code (libphonenumber's codes); with `+` all are found."""


class MinHashConfig(StrictModel):
    """Near duplicates by MinHash and locality-sensitive hashing (datatrove)."""

    shingle_units: int = Field(5, ge=1)
    """Units of a shingle. Texts with fewer units have no near duplicates, only exact ones."""
    num_buckets: int = Field(14, ge=1)
    """Bands: two texts are taken for duplicates when all hashes of one band are equal."""
    hashes_per_bucket: int = Field(8, ge=1)
    """Hashes of a band. Two texts of Jaccard similarity s meet with probability 1 - (1 - s^hashes)^buckets."""
    tasks_per_bucket: int = Field(1, ge=1)
    """Tasks that share the comparison of one band."""


class DecontaminationConfig(StrictModel):
    """Documents that hold text of a benchmark."""

    benchmarks: tuple[Artefact, ...]
    """Files or folders of JSON and JSONL (also .gz): a list, or one object a line."""
    files: tuple[str, ...] = ()
    """Names of the files that count in folders among `benchmarks`, with `*` and `?`, for example `test.jsonl` where a
    folder holds training rows as well; by default all."""
    fields: tuple[str, ...] = ()
    """Keys whose texts count, wherever they stand; by default every text in the file."""
    ngram_units: int = Field(13, ge=2)
    """Units in a row that a document and a benchmark row must share."""
    min_units: int = Field(8, ge=1)
    """Texts of a benchmark that are shorter than an n-gram are searched for as a whole, from this length on."""
    min_matches: int = Field(1, ge=1)
    """Different n-grams of one benchmark row from which on a document is dropped."""
    max_rows_per_ngram: int = Field(10, ge=1)
    """N-grams that stand in more rows of a file belong to its prompt and do not count."""


class LanguageModelConfig(StrictModel):
    """Coherence: how likely a small causal language model finds a text."""

    model: Artefact
    """A Hugging Face folder of a family that we know, or a stage that makes a model."""
    max_tokens: int = Field(512, ge=8)
    """Tokens of a text that are read; what comes after does not count."""
    min_tokens: int = Field(16, ge=1)
    """Shorter texts are not judged: the mean of a few tokens says little."""
    tokens_per_batch: int = Field(4096, ge=8)
    """Tokens of one packed forward pass."""
    percentile: float | None = Field(5.0, gt=0, lt=100)
    """Of the texts of each language so many per cent, the least likely, are dropped."""
    sample: int = Field(100_000, ge=100)
    """Documents whose likelihood decides where the percentile lies (drawn by seed)."""
    min_logprob: float | None = Field(None, lt=0)
    """Instead of `percentile`: the smallest mean log-probability of a token, in nats."""
    max_logprob: float | None = Field(None, lt=0)
    """Texts that are likelier than this are dropped too: lists, boilerplate, repetition; in nats a token."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the model."""

    def rule_violations(self) -> Iterator[str]:
        """One lower bound; bounds in order."""
        if self.percentile is not None and self.min_logprob is not None:
            yield f"min_logprob={self.min_logprob} beside percentile={self.percentile}; set percentile to null"
        if self.max_logprob is not None and self.min_logprob is not None and self.min_logprob >= self.max_logprob:
            yield f"min_logprob={self.min_logprob} is not below max_logprob={self.max_logprob}; no text could be kept"
        if self.tokens_per_batch <= self.max_tokens:
            yield f"tokens_per_batch={self.tokens_per_batch} must be above max_tokens={self.max_tokens}; raise it"


class ToneConfig(StrictModel):
    """Tone by a classifier that `redone curate tone-model` trained."""

    model: Artefact
    """The classifier's folder."""
    max_probability: float = Field(0.9, gt=0, le=1)
    """Texts that the classifier of their language finds offensive with a higher probability are dropped. Texts in a
    language that it was not trained on are not judged."""


class SlurmConfig(StrictModel):
    """What datatrove's Slurm executor asks for, for each pass."""

    partition: str = Field(min_length=1)
    """Partition of the CPU passes."""
    time: str = Field("04:00:00", pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$")
    """Time limit of a job, `HH:MM:SS`."""
    cpus_per_task: int = Field(1, ge=1)
    """Cores of a task; a task uses one, more cores bring more memory."""
    memory_gib_per_cpu: int = Field(4, ge=1)
    """Memory for each core."""
    tasks_per_job: int = Field(1, ge=1)
    """Tasks that one element of the job array runs one after the other."""
    max_array_size: int = Field(1001, ge=1)
    """Largest job array of the cluster."""
    account: str | None = None
    """Account to charge."""
    qos: str | None = None
    """Quality of service."""
    environment: str | None = None
    """Shell command that makes the Python environment ready, for example `source /path/to/venv/bin/activate`."""
    model_partition: str | None = None
    """Partition of the pass that runs the language model; by default `partition`."""
    model_gpus: int = Field(0, ge=0, le=1)
    """GPUs of a task of that pass."""


class ExecutorConfig(StrictModel):
    """Where the passes run. It does not decide the result: a run may go on with other settings here."""

    kind: Literal["local", "slurm"] = "local"
    workers: int = Field(1, ge=1)
    """Tasks that run side by side; on Slurm the limit of running elements of a job array."""
    slurm: SlurmConfig | None = None
    """Needed where `kind` is slurm."""

    def rule_violations(self) -> Iterator[str]:
        """Slurm needs its section."""
        if self.kind == "slurm" and self.slurm is None:
            yield "kind='slurm' needs a section slurm with at least a partition; add it or use kind: local"


class FilterConfig(StrictModel):
    """From raw documents to kept ones: rules, exact duplicates, near duplicates, benchmarks, language model, tone."""

    encoding: EncodingRules = EncodingRules()
    html: HTMLRules = HTMLRules()
    length: LengthRules = LengthRules()
    content: ContentRules = ContentRules()
    language: LanguageRules = LanguageRules()
    repetition: RepetitionRules = RepetitionRules()
    pii: PIIRules = PIIRules()
    minhash: MinHashConfig | None = MinHashConfig()
    """Null leaves near duplicates in; exact ones are always dropped."""
    decontamination: DecontaminationConfig | None = None
    language_model: LanguageModelConfig | None = None
    tone: ToneConfig | None = None
    samples_per_reason: int = Field(20, ge=0)
    """Dropped texts that are kept for review, for each reason."""
    sample_characters: int = Field(2000, ge=1)
    """Characters of such a text that are kept."""
    shard_mib: int = Field(256, ge=1)
    """MiB of input that one task reads, and so roughly one output shard; a compressed file is never divided."""
    executor: ExecutorConfig = ExecutorConfig()


class ToneModelConfig(StrictModel):
    """A classifier of offensive texts: logistic regression on hashed character n-grams, one for each language."""

    num_features: int = Field(2**18, ge=2**10)
    """Places that n-grams are hashed to."""
    max_ngram: int = Field(4, ge=1, le=8)
    """Longest character n-gram."""
    inverse_regularisation: float = Field(10.0, gt=0)
    """Scikit-learn's C: larger fits the training rows closer."""
    held_out_share: float = Field(0.2, gt=0, lt=1)
    """Share of rows, by the hash of the text, on which AUC is measured where the data has no test set of its own."""
