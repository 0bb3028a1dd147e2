"""Online uses: exposure of harmful content, and help for creators with titles, covers, summaries and claims."""

from __future__ import annotations

from megatron_redone.scoring.faithfulness import FactReference, KeptFacts, has_fact
from megatron_redone.scoring.pattern import Pattern
from megatron_redone.tasks.base import Field, Row
from megatron_redone.tasks.kinds import NOTE_FIELDS, choose_label, choose_labels, choose_letter, grade, label_set
from megatron_redone.tasks.list_kinds import list_spans, write_line
from megatron_redone.tasks.prompts import optional

CAPABILITY = "online"
_COVER_WORDS = Field("max_words", "integer", default=12)
_SUMMARY_WORDS = Field("max_words", "integer", default=60)
_COMMENTS = Field("comments", "texts", "lines")
_KEEP = Field("keep", "texts", shown=False)
_KEEP_SHOWN = Field("keep", "texts")


def _cover_facts(row: Row) -> FactReference:
    pattern = Pattern(language=row.language, max_words=_COVER_WORDS.value(row), one_line=True)
    return FactReference(facts=tuple(row.fields["keep"]), pattern=pattern)


def _summary_facts(row: Row) -> FactReference:
    pattern = Pattern(language=row.language, max_words=_SUMMARY_WORDS.value(row), one_line=True)
    return FactReference(facts=tuple(row.fields["keep"]), pattern=pattern)


def _check_comment_facts(row: Row) -> list[str]:
    said = "\n".join(row.fields["comments"])
    missing = [fact for fact in row.fields["keep"] if not has_fact(said, fact)]
    return [f"expression {fact!r} of 'keep' stands in no comment" for fact in missing]


HARMFUL_CONTENT_DETECTION = choose_label(
    "harmful_content_detection",
    CAPABILITY,
    {
        "en": (
            "Exposure: may the platform recommend this note? Harmless notes are shown, doubtful ones are not "
            "recommended, harmful ones are taken down."
        ),
        "zh": "曝光判定：平台能否推荐这条笔记？无害的正常展示，存疑的不推荐，有害的下架。",
    },
    (*NOTE_FIELDS, optional("ocr"), optional("comments", "texts")),
    label_set(("harmless", "doubtful", "harmful"), ("无害", "存疑", "有害")),
    paper="Harmful content detection",
)

TITLE_APPEAL = grade(
    "title_appeal",
    CAPABILITY,
    {
        "en": (
            "Title grade: how good is the title for this note? 1 misleading or empty; 2 vague; 3 plain; "
            "4 clear and specific; 5 clear, specific, lively and true to the note."
        ),
        "zh": "标题打分：标题配这条笔记有多好？1 误导或空洞；2 含糊；3 平淡；4 清楚具体；5 清楚具体、生动且忠实。",
    },
    (Field("title"), Field("content")),
    (1, 2, 3, 4, 5),
)

TITLE_SELECTION = choose_letter(
    "title_selection",
    CAPABILITY,
    {
        "en": "Best title: which of the titles serves the note best without promising more than it holds?",
        "zh": "选标题：哪个标题最适合这条笔记又不夸大？",
    },
    (Field("content"),),
    "titles",
)

TITLE_FAULTS = choose_labels(
    "title_faults",
    CAPABILITY,
    {
        "en": "Title faults: what is wrong with the rewritten title, compared with the note?",
        "zh": "标题毛病：对照笔记，改写后的标题有什么问题？",
    },
    (Field("content"), Field("title")),
    label_set(
        ("vague", "clickbait", "drops a key fact", "states something false", "too long", "stilted"),
        ("含糊", "标题党", "丢失关键信息", "与事实不符", "太长", "生硬"),
    ),
    none=True,
)

COVER_TEXT = write_line(
    "cover_text",
    CAPABILITY,
    {
        "en": "Cover: write the words for the picture that opens the note. They must contain: {keep}.",
        "zh": "封面文案：为笔记首图写文字，必须包含：{keep}。",
    },
    (*NOTE_FIELDS, _KEEP_SHOWN, _COVER_WORDS),
    KeptFacts(),
    form={
        "en": "Reply in English with one line of at most {max_words} words.",
        "zh": "用中文回复一行，最多{max_words}字。",
    },
    reference=_cover_facts,
)

COMMENT_SUMMARY = write_line(
    "comment_summary",
    CAPABILITY,
    {
        "en": "What people say: sum up the comments for the author; keep every number, name and concrete wish.",
        "zh": "评论总结：替作者总结评论，保留所有数字、名称和具体诉求。",
    },
    (_COMMENTS, _KEEP, _SUMMARY_WORDS),
    KeptFacts(),
    form={
        "en": "Reply in English with one line of at most {max_words} words.",
        "zh": "用中文回复一行，最多{max_words}字。",
    },
    reference=_summary_facts,
    check=_check_comment_facts,
)

AD_CLAIMS = list_spans(
    "ad_claims",
    CAPABILITY,
    {
        "en": (
            "Advertising claims: quote the words of this product text that advertising rules forbid: superlatives "
            "without proof, promised cures, guaranteed gains."
        ),
        "zh": "广告用语：摘出商品文案中广告法规禁止的词句：无依据的极限词、包治承诺、保证收益。",
    },
    (Field("product"),),
    (Field("product"),),
)

LIVE_HIGHLIGHT = choose_letter(
    "live_highlight",
    CAPABILITY,
    {
        "en": "Clip: which part of the live stream would make the best short clip?",
        "zh": "直播切片：直播的哪一段最适合剪成短视频？",
    },
    (Field("topic"),),
    "transcript",
)

TASKS = (
    HARMFUL_CONTENT_DETECTION,
    TITLE_APPEAL,
    TITLE_SELECTION,
    TITLE_FAULTS,
    COVER_TEXT,
    COMMENT_SUMMARY,
    AD_CLAIMS,
    LIVE_HIGHLIGHT,
)
