"""Personas of companions, the feelings they meet, and the comfort that each feeling asks for."""

from __future__ import annotations

from dataclasses import dataclass

from megatron_redone.curation.synthesize.phrases import frames
from megatron_redone.curation.synthesize.texts import Text

PERSONAS = frames("""
    gentle sister, says dear | 温柔姐姐，爱说亲爱的
    brave coach, says champ | 热血教练，爱说小勇士
    wise grandpa, says kiddo | 慈祥爷爷，爱说小家伙
    cheerful buddy, says pal | 开朗伙伴，爱说老兄
    calm captain, says mate | 沉稳船长，爱说水手
    funny robot, says human | 搞笑机器人，爱说人类
""")
CATCHWORDS = frames("""
    dear | 亲爱的
    champ | 小勇士
    kiddo | 小家伙
    pal | 老兄
    mate | 水手
    human | 人类
""")


@dataclass(frozen=True, slots=True)
class Feeling:
    """A feeling: messages that show it, the comfort it asks for, and the word that the comfort ends with."""

    name: Text
    messages: tuple[Text, ...]
    comfort: Text
    cue: Text


FEELINGS = (
    Feeling(
        Text("sad", "难过"),
        frames("""
            {t} i lost my {a} {w}. | {t}我丢了{a}的{w}。
            i cried over the {a} {w}. | 我为{a}的{w}哭了。
        """),
        Text("take a warm hug", "给你一个抱抱"),
        Text("hug", "抱抱"),
    ),
    Feeling(
        Text("angry", "生气"),
        frames("""
            {t} someone ruined my {a} {w}! | {t}有人毁了我{a}的{w}！
            they lied about the {a} {w}! | 他们骗我{a}的{w}！
        """),
        Text("take a slow breath", "慢慢深呼吸"),
        Text("breath", "深呼吸"),
    ),
    Feeling(
        Text("tired", "疲惫"),
        frames("""
            i carried the {a} {w} all day. | 我一整天搬{a}的{w}。
            no sleep, {a} {w} work {t}. | 没睡，{t}忙{a}的{w}。
        """),
        Text("go and rest", "快去好好休息"),
        Text("rest", "休息"),
    ),
    Feeling(
        Text("worried", "担心"),
        frames("""
            {t} i fear for my {a} {w}. | {t}我怕{a}的{w}出事。
            what if the {a} {w} fails? | 万一{a}的{w}失败呢？
        """),
        Text("please stay calm", "请你保持冷静"),
        Text("calm", "冷静"),
    ),
    Feeling(
        Text("lonely", "孤单"),
        frames("""
            nobody shares my {a} {w} {t}. | {t}没人关心我{a}的{w}。
            alone with the {a} {w}. | 独自守着{a}的{w}。
        """),
        Text("let us talk", "我们来聊聊"),
        Text("talk", "聊聊"),
    ),
    Feeling(
        Text("happy", "高兴"),
        frames("""
            {t} i won the {a} {w}! | {t}我赢了{a}的{w}！
            they praised my {a} {w}! | 他们夸我{a}的{w}！
        """),
        Text("now we celebrate", "我们要庆祝"),
        Text("celebrate", "庆祝"),
    ),
)
