"""Frames: sentences with slots, and what a sentence made from each of them means.

Slots: {w} and {v} things of the lexicon, {a} adjective, {t} time, {g} group of people, {b} brand, {p} place,
{n} person ({b2}, {p2}, {n2} a second one). The label of a row follows from the frame and the words put in,
never from chance.
"""

from __future__ import annotations

from dataclasses import dataclass

from megatron_redone.curation.synthesize.texts import Text


def frames(lines: str) -> tuple[Text, ...]:
    """One frame a line, "english | 中文"."""
    parts = (line.split("|") for line in lines.strip().splitlines())
    return tuple(Text(english.strip(), chinese.strip()) for english, chinese in parts)


TITLES = frames("""
    {a} {w} diary | {a}{w}日记
    {w} story {t} | {t}的{w}故事
    why {a} {w} | 为何{a}{w}
    {a} {w} notes | {a}{w}小记
    {w} plan {t} | {t}的{w}计划
""")
SENTENCES = frames("""
    {t} i tried the {w}. | {t}我试了{w}。
    this {w} is {a}. | 这个{w}很{a}。
    i love the {a} {w}. | 我喜欢{a}的{w}。
    {t} we saw the {w}. | {t}我们看到{w}。
    my {a} {w} is here. | 我的{a}的{w}到了。
    sharing my {a} {w}. | 分享我{a}的{w}。
    the {w} arrived {t}. | {w}{t}送到。
    we want a {a} {w}. | 我们想要{a}的{w}。
""")
PAIR_SENTENCES = frames("""
    {t} the {w} and {v}. | {t}的{w}和{v}。
    a {a} {w} with {v}. | {a}的{w}配{v}。
    {w} beside the {a} {v}. | {w}旁边是{a}的{v}。
    we packed {w} and {v} {t}. | 我们{t}带上{w}和{v}。
""")
ADVERTISING = frames("""
    {t} order {a} {w} at discount. | {t}下单{a}{w}享折扣。
    {t} coupon for {a} {w}. | {t}领{a}{w}优惠券。
    hurry, {a} {w} on sale {t}. | 快来，{t}{a}{w}大促销。
    our {a} {w} shop opens {t}. | 我们{a}{w}店{t}开业。
""")


DOUBLE_QUERIES = frames("""
    {w} or {v} | {w}还是{v}
    {w} with {v} | {w}搭{v}
""")


@dataclass(frozen=True, slots=True)
class Intent:
    """What a searcher wants: the queries, comments and documents that show it."""

    name: Text
    queries: tuple[Text, ...]
    """The first one is the query that a reader of a matching comment types."""
    comments: tuple[Text, ...]
    questions: tuple[Text, ...]
    documents: tuple[Text, ...]


def _intent(name: Text, lines: str) -> Intent:
    read = frames(lines)
    return Intent(name, read[:2], read[2:4], read[4:5], read[5:])


INTENTS = (
    _intent(
        Text("learn-method", "学习-方法"),
        """how to use {w} | 怎么用{w}
        {w} tutorial | {w}教程
        {t} how does one handle {a} {w}? | {t}{a}的{w}要怎么弄？
        please teach {a} {w} {t}! | {t}求教{a}的{w}！
        what are the steps for {w}? | {w}的步骤是什么？
        {t} first open {a} {w}, then wait. | {t}先打开{a}的{w}，再等一会。
        step one {t}: clean {a} {w}. | 第一步{t}清洗{a}的{w}。""",
    ),
    _intent(
        Text("learn-meaning", "学习-含义"),
        """what is {w} | 什么是{w}
        {w} basics | {w}入门
        {t} somebody explain this {a} {w}? | {t}谁能解释{a}的{w}？
        never knew {a} {w}, tell me {t}! | 没听说{a}的{w}，{t}讲讲！
        what does {w} mean? | {w}是什么意思？
        {w} means a thing used {a} {t}. | {w}是指{t}{a}的东西。
        {t} we define {w} as {a}. | {t}我们把{w}定义为{a}。""",
    ),
    _intent(
        Text("buy-price", "购买-价格"),
        """price of {w} | 多少钱{w}
        cheap {w} | 便宜{w}
        {t} how much was {a} {w}? | {t}{a}的{w}多贵？
        is {a} {w} expensive {t}? | {t}{a}的{w}贵不贵？
        what does {w} cost? | {w}要花多少？
        {t} the {a} {w} costs nine coins. | {t}{a}的{w}卖九块。
        {t} we paid little for {a} {w}. | {t}花很少买到{a}的{w}。""",
    ),
    _intent(
        Text("buy-shop", "购买-店铺"),
        """where to buy {w} | 哪里买{w}
        {w} store | {w}商店
        which seller has {a} {w} {t}? | {t}谁家有{a}的{w}？
        {t} i need a link, {a} {w}! | {t}求链接，{a}的{w}！
        who sells {w}? | {w}在哪卖？
        {t} the market sells {a} {w}. | {t}市场里卖{a}的{w}。
        {t} the mall stocks {a} {w}. | {t}商场上架{a}的{w}。""",
    ),
    _intent(
        Text("choose-review", "选择-评价"),
        """is {w} good | 好不好{w}
        {w} review | {w}测评
        any regrets {t} about {a} {w}? | {t}{a}的{w}后悔吗？
        {t} would you recommend {a} {w}? | {t}会推荐{a}的{w}吗？
        how do users judge {w}? | 用户怎么评{w}？
        after a month {w} stays {a} {t}. | 用一个月，{t}{w}仍{a}。
        my verdict {t}: {a} {w} is worth it. | {t}我的结论：{a}的{w}值得。""",
    ),
    _intent(
        Text("choose-ranking", "选择-排行"),
        """best {w} | 最好的{w}
        {w} ranking | {w}排名
        {t} which {a} {w} wins? | {t}哪款{a}的{w}最强？
        does another {w} beat this {a} one {t}? | {t}别的{w}胜过这{a}的吗？
        which {w} comes first? | 哪个{w}第一？
        {t} the {a} {w} ranks first. | {t}{a}的{w}排第一。
        {t} the top list has {a} {w}. | {t}榜单有{a}的{w}。""",
    ),
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label and the frames of sentences that carry it."""

    label: Text
    frames: tuple[Text, ...]


SECURITY = (
    Labelled(
        Text("normal", "正常"),
        frames("""
            you are kind, {a} {w}. | 你真好心，{a}的{w}。
            {t} thanks for the {w}. | {t}谢谢你的{w}。
            happy with my {a} {w}. | {a}的{w}让我开心。
            {t} a calm {w} day. | {t}平静的{w}日。
        """),
    ),
    Labelled(
        Text("spam", "垃圾信息"),
        frames("""
            add me, free {a} {w}. | 加我，免费{a}{w}。
            {t} click here, win {w}. | {t}点这里，赢{w}。
            follow me, get {a} {w}. | 关注我，送{a}{w}。
            {t} forward this, free {w}. | {t}转发，免费{w}。
        """),
    ),
    Labelled(
        Text("personal attack", "人身攻击"),
        frames("""
            you fool, {a} {w}. | 你这傻瓜，{a}的{w}。
            {t} your {w} is stupid, loser. | {t}你的{w}真蠢，废物。
            only idiots like {a} {w}. | 笨蛋才爱{a}的{w}。
            shut up, fool, {w} {t}. | 闭嘴，傻瓜，{t}{w}。
        """),
    ),
    Labelled(
        Text("false claim", "虚假宣称"),
        frames("""
            {a} {w} cures every illness. | {a}的{w}包治百病。
            {w} makes you rich {t}. | {w}让你{t}暴富。
            doctors hide the {a} {w}. | 医生隐瞒{a}的{w}。
            one {w} {t}, young forever. | {t}一个{w}，永远年轻。
        """),
    ),
)

GENDER_APPEALS = frames("""
    {g} should not touch {w}. | {g}不该碰{w}。
    {w} is only for {g}. | {w}只给{g}。
    {g} can never master {w}. | {g}学不会{w}。
    {a} {w} is wrong for {g}. | {a}的{w}不适合{g}。
""")
GROUP_REMARKS = frames("""
    {g} shared {a} {w}. | {g}分享了{a}的{w}。
    {t} {g} brought the {w}. | {t}{g}带来{w}。
    i met {g} with {w} {t}. | {t}我遇到带{w}的{g}。
    {a} {w} pleased many {g}. | {a}的{w}让{g}高兴。
""")

NAME_SENTENCES = frames("""
    {n} bought {b} {w} in {p}. | {n}在{p}买了{b}{w}。
    in {p} {n} saw {b} {w}. | 在{p}，{n}看到{b}{w}。
    {b} {w} from {n} in {p}. | {p}的{n}送的{b}{w}。
    {t} {n} took {b} {w} to {p}. | {t}{n}把{b}{w}带到{p}。
""")
DOUBLE_NAME_SENTENCES = {
    "brand": frames("""
        {b} or {b2} {w}, asked {n} in {p}. | {b}还是{b2}{w}，{n}在{p}问。
        in {p} {n} compared {b} and {b2} {w}. | 在{p}，{n}比较{b}和{b2}{w}。
    """),
    "place": frames("""
        from {p} to {p2} {n} carried {b} {w}. | 从{p}到{p2}，{n}带着{b}{w}。
        {n} sells {b} {w} in {p} and {p2}. | {n}在{p}和{p2}卖{b}{w}。
    """),
    "person": frames("""
        {n} and {n2} bought {b} {w} in {p}. | {n}和{n2}在{p}买了{b}{w}。
        in {p} {n} gave {n2} {b} {w}. | 在{p}，{n}送给{n2}{b}{w}。
    """),
}
"""By type of name: sentences with two names of that type."""
COMMENTS = (
    frames("""
        so {a}, thank you {t}! | 好{a}，{t}谢谢你！
        {n} looks {a} {t}! | {n}{t}看着{a}！
        {t} i laughed, so {a}! | {t}我笑了，好{a}！
        hello {n}, {a} as ever! | 你好{n}，一直{a}！
    """),
    frames("""
        {t} the {w}, how {a}! | {t}的{w}，多么{a}！
        {n} needs this {a} {w}! | {n}需要这{a}的{w}！
        {a} idea, {n}, that {w}! | {a}的主意，{n}，那{w}！
    """),
    frames("""
        {w} or {v}, both {a}! | {w}或{v}，都{a}！
        {n} mixed {w} and {v} {t}! | {n}{t}混搭{w}与{v}！
        {a} {w}, and that {v}! | {a}的{w}，还有那{v}！
    """),
)
"""Comments about none, one and two things."""
