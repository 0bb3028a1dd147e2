"""Content understanding for moderation: posts, comments, live streams, profiles, reports and appeals."""

from __future__ import annotations

from megatron_redone.tasks.base import Field
from megatron_redone.tasks.kinds import (
    NOTE_FIELDS,
    choose_label,
    choose_labels,
    choose_letters,
    grade,
    label_set,
)
from megatron_redone.tasks.list_kinds import list_spans
from megatron_redone.tasks.prompts import optional

CAPABILITY = "content_understanding"

COMMENT_MODERATION = choose_label(
    "comment_moderation",
    CAPABILITY,
    {
        "en": "Comment review: which rule does the comment under this note break, if any?",
        "zh": "评论审核：这条笔记下的评论违反哪条规则，还是没有违规？",
    },
    (optional("title"), Field("comment")),
    label_set(
        ("no violation", "insult", "threat", "hate against a group", "sexual harassment", "spam"),
        ("无违规", "辱骂", "威胁", "群体仇恨", "性骚扰", "垃圾广告"),
    ),
)

LIVE_MODERATION = choose_letters(
    "live_moderation",
    CAPABILITY,
    {
        "en": "Live stream review: which utterances of the host break one of the rules?",
        "zh": "直播审核：主播的哪些话违反了规则？",
    },
    (Field("rules", "texts", "lines"),),
    "transcript",
)

NICKNAME_MODERATION = choose_label(
    "nickname_moderation",
    CAPABILITY,
    {
        "en": "Profile review: what is wrong with this nickname and bio, if anything?",
        "zh": "昵称审核：这个昵称和简介有什么问题？",
    },
    (Field("nickname"), optional("bio")),
    label_set(
        ("no violation", "impersonation", "contact details or advertising", "vulgar", "hateful or illegal"),
        ("无违规", "冒充他人或官方", "联系方式或广告", "低俗", "仇恨或违法"),
    ),
)

PROMOTION_DISCLOSURE = choose_label(
    "promotion_disclosure",
    CAPABILITY,
    {
        "en": "Promotion: does the note advertise, and does it say so?",
        "zh": "推广识别：笔记是不是推广，有没有说明？",
    },
    (*NOTE_FIELDS, optional("ocr")),
    label_set(
        ("no promotion", "disclosed promotion", "undisclosed promotion", "private second-hand sale"),
        ("非推广", "已声明的推广", "未声明的推广", "个人闲置转让"),
    ),
)

OFF_PLATFORM_DIVERSION = list_spans(
    "off_platform_diversion",
    CAPABILITY,
    {
        "en": "Diversion: quote every contact or hint in the text that leads readers away from the platform.",
        "zh": "导流识别：摘出文中把读者引到站外的联系方式或暗示。",
    },
    (Field("text"),),
    (Field("text"),),
)

MINOR_PROTECTION = choose_label(
    "minor_protection",
    CAPABILITY,
    {
        "en": "Minors: what does the note mean for the safety of children?",
        "zh": "未成年人保护：从儿童安全看，这条笔记属于哪一类？",
    },
    NOTE_FIELDS,
    label_set(
        (
            "no minor concerned",
            "minor shown without harm",
            "private data of a minor",
            "minor in danger",
            "minor made an object of sex",
            "unsuitable for minors",
        ),
        (
            "不涉及未成年人",
            "未成年人正常出镜",
            "泄露未成年人隐私",
            "未成年人处于危险",
            "未成年人性化内容",
            "不适合未成年人观看",
        ),
    ),
)

CLAIM_DETECTION = choose_letters(
    "claim_detection",
    CAPABILITY,
    {
        "en": "Claims: which sentences of the note state a fact that could mislead people and should be checked?",
        "zh": "待核查说法：笔记中哪些句子陈述了可能误导人、需要核查的事实？",
    },
    (),
    "sentences",
)

CLAIM_VERIFICATION = choose_label(
    "claim_verification",
    CAPABILITY,
    {
        "en": "Misinformation: what does the evidence say about the claim?",
        "zh": "辟谣：依据对这个说法的结论是什么？",
    },
    (Field("claim"), Field("evidence", "texts", "lines")),
    label_set(("supported", "refuted", "not enough evidence"), ("证实", "证伪", "依据不足")),
)

SELF_HARM_ESCALATION = grade(
    "self_harm_escalation",
    CAPABILITY,
    {
        "en": (
            "Self-harm risk: how urgently should a person look at this text? 0 no sign; 1 low mood; "
            "2 thoughts of self-harm; 3 a plan or an act, call for help at once."
        ),
        "zh": "自伤风险：需要多快人工介入？0 无迹象；1 情绪低落；2 有自伤念头；3 有计划或行为，立即求助。",
    },
    (optional("history", "texts"), Field("text")),
    (0, 1, 2, 3),
)

POLICY_CLAUSES = choose_letters(
    "policy_clauses",
    CAPABILITY,
    {
        "en": "Policy: which of the rules does the note break? Judge by these rules alone.",
        "zh": "规则匹配：笔记违反了哪些规则？只按给出的规则判断。",
    },
    (*NOTE_FIELDS, optional("ocr")),
    "rules",
)

APPEAL_REVIEW = choose_label(
    "appeal_review",
    CAPABILITY,
    {
        "en": "Second review: the author appeals against a decision on the note. What now?",
        "zh": "申诉复核：作者对处理结果提出申诉，应该怎么办？",
    },
    (*NOTE_FIELDS, Field("decision"), Field("appeal")),
    label_set(("uphold", "overturn", "ask a specialist"), ("维持", "撤销", "转专家")),
)

REPORT_TRIAGE = choose_label(
    "report_triage",
    CAPABILITY,
    {
        "en": "Report: to which team does this report of a user go?",
        "zh": "举报分流：这条用户举报应转给哪个团队？",
    },
    (Field("report"), Field("content")),
    label_set(
        ("copyright", "privacy", "fraud", "bullying", "personal safety", "no ground"),
        ("侵权", "隐私", "诈骗", "霸凌", "人身安全", "举报不成立"),
    ),
)

LOW_QUALITY_REASONS = choose_labels(
    "low_quality_reasons",
    CAPABILITY,
    {
        "en": "Low quality: what makes this note poor reading?",
        "zh": "低质原因：这条笔记差在哪里？",
    },
    NOTE_FIELDS,
    label_set(
        ("no information", "clickbait", "repetition", "keyword stuffing", "unreadable layout", "copied text"),
        ("没有信息", "标题党", "内容重复", "堆砌关键词", "排版难读", "搬运"),
    ),
    none=True,
)

TASKS = (
    COMMENT_MODERATION,
    LIVE_MODERATION,
    NICKNAME_MODERATION,
    PROMOTION_DISCLOSURE,
    OFF_PLATFORM_DIVERSION,
    MINOR_PROTECTION,
    CLAIM_DETECTION,
    CLAIM_VERIFICATION,
    SELF_HARM_ESCALATION,
    POLICY_CLAUSES,
    APPEAL_REVIEW,
    REPORT_TRIAGE,
    LOW_QUALITY_REASONS,
)
