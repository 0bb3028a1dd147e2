"""Content understanding of search queries: topic paths, time, place, cuts, spelling, rewriting."""

from __future__ import annotations

from megatron_redone.scoring.exact_match import ExactMatch
from megatron_redone.scoring.segmentation import SegmentF1
from megatron_redone.scoring.text_metrics import Anls
from megatron_redone.tasks import answer_lists as lists
from megatron_redone.tasks.answers import options_of, parse_choice, plain_text
from megatron_redone.tasks.base import Field, Row
from megatron_redone.tasks.kinds import NOTE_FIELDS, choose_label, choose_labels, label_set, make_task
from megatron_redone.tasks.list_kinds import write_line
from megatron_redone.tasks.prompts import optional

CAPABILITY = "content_understanding"
QUERY = Field("query")
_PATHS = Field("paths", "texts", "lines")


def _check_paths(row: Row) -> list[str]:
    bad = [path for path in row.fields["paths"] if not all(part.strip() for part in path.split(">"))]
    return [f"field 'paths' has {bad[0]!r}, expected topics such as 'food > baking'"] if bad else []


def _check_segments(row: Row) -> list[str]:
    text = " | ".join(row.answer)
    read = lists.parse_segments("query")(text, row)
    return [] if read else [f"gold segments {text!r} do not make up the query"]


NOTE_TOPIC_PATH = make_task(
    "note_topic_path",
    CAPABILITY,
    {
        "en": "Topic tree: which path of the tree describes the note best? Take the deepest path that still fits.",
        "zh": "话题树：哪条路径最能概括这条笔记？选仍然贴切的最深路径。",
    },
    (*NOTE_FIELDS, _PATHS),
    {"en": "Reply with one of the paths as it stands, such as a > b.", "zh": "照原样回复其中一条路径，如 a > b。"},
    check=_check_paths,
    answer_format="choice",
    reward_kind="exact_match",
    parser=parse_choice(options_of(_PATHS)),
    scorer=ExactMatch(),
    formatter=plain_text,
    format_rule="one of the paths",
    options=options_of(_PATHS),
)

QUERY_TIME_SENSITIVITY = choose_label(
    "query_time_sensitivity",
    CAPABILITY,
    {
        "en": "Freshness: how recent must notes be to answer the query?",
        "zh": "查询时效：什么时间的笔记才能满足这个查询？",
    },
    (QUERY,),
    label_set(
        ("any time", "this season or holiday", "this year", "this week", "today"),
        ("不限时间", "当季或节日", "今年", "本周", "当天"),
    ),
)

QUERY_LOCATION_SENSITIVITY = choose_label(
    "query_location_sensitivity",
    CAPABILITY,
    {
        "en": "Place: does the answer to the query depend on a place, and which?",
        "zh": "查询地域：答案是否取决于地点，是哪里？",
    },
    (QUERY,),
    label_set(
        ("no place", "place named in the query", "near the user"), ("与地点无关", "查询中写明的地点", "用户附近")
    ),
)

QUERY_NEEDS = choose_labels(
    "query_needs",
    CAPABILITY,
    {
        "en": "Needs: what does a good page of results for the query hold?",
        "zh": "查询需求：好的结果页应该包含哪些内容？",
    },
    (QUERY,),
    label_set(
        ("prices", "how-to", "pictures", "reviews", "addresses", "facts", "news", "chat"),
        ("价格", "做法", "图片", "测评", "地址", "知识", "新闻", "闲聊"),
    ),
    none=False,
)

QUERY_SEGMENTATION = make_task(
    "query_segmentation",
    CAPABILITY,
    {
        "en": "Segments: cut the query into the phrases that a search engine should keep whole.",
        "zh": "查询切分：把查询切成搜索时不可再拆的短语。",
    },
    (QUERY,),
    {"en": "Reply with the whole query cut by bars: a | b | c.", "zh": "回复用竖线切开的完整查询：a | b | c。"},
    check=_check_segments,
    answer_format="extraction",
    reward_kind="metric",
    parser=lists.parse_segments("query"),
    scorer=SegmentF1(),
    formatter=lists.segments,
    format_rule="the whole query cut as `a | b | c`",
    answer_kind="texts",
)

QUERY_SPELLING = write_line(
    "query_spelling",
    CAPABILITY,
    {
        "en": "Spelling: write the query as it was meant; a correct query stays as it is.",
        "zh": "查询纠错：写出用户本来想输入的查询；没有错就照抄。",
    },
    (QUERY,),
    ExactMatch(),
    reward_kind="exact_match",
    form={"en": "Reply with the query and nothing else.", "zh": "只回复查询。"},
)

QUERY_REWRITING = write_line(
    "query_rewriting",
    CAPABILITY,
    {
        "en": "Rewriting: turn the last message into a short query that can be searched without the earlier ones.",
        "zh": "查询改写：把最后一句话改写成不看上文也能搜索的短查询。",
    },
    (optional("history", "texts"), Field("message")),
    Anls(),
    form={"en": "Reply with one query and nothing else.", "zh": "只回复一个查询。"},
)

TASKS = (
    NOTE_TOPIC_PATH,
    QUERY_TIME_SENSITIVITY,
    QUERY_LOCATION_SENSITIVITY,
    QUERY_NEEDS,
    QUERY_SEGMENTATION,
    QUERY_SPELLING,
    QUERY_REWRITING,
)
