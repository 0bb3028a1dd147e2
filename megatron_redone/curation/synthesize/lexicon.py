"""The words of an invented platform: topics, subtopics, their things, names, and plain adjectives and times.

Every entry is a pair "english 中文", one to one, so that translation is a rule over words. All lists were
written for this project; brands, places and shops are made up.
"""

from __future__ import annotations

from dataclasses import dataclass

from megatron_redone.curation.synthesize.texts import Text, pairs


@dataclass(frozen=True, slots=True)
class Subtopic:
    """A subtopic with the things its notes talk about and the hashtag they carry."""

    topic: Text
    name: Text
    hashtag: Text
    items: tuple[Text, ...]

    @property
    def category(self) -> Text:
        """`topic-subtopic`, the form of the query categories."""
        return Text(f"{self.topic.en}-{self.name.en}", f"{self.topic.zh}-{self.name.zh}")


_WORLD = {
    "beauty 美妆": {
        "skincare 护肤 #glowskin #水光肌": "serum 精华; sunscreen 防晒霜; mask 面膜",
        "makeup 彩妆 #facepaint #妆容控": "lipstick 口红; mascara 睫毛膏; powder 粉饼",
    },
    "food 美食": {
        "baking 烘焙 #ovenlove #烤箱党": "bread 面包; cookie 曲奇; butter 黄油",
        "cooking 做菜 #homechef #小厨房": "soup 热汤; noodle 面条; wok 炒锅",
    },
    "travel 旅行": {
        "hiking 徒步 #trailtime #山野行": "tent 帐篷; backpack 背包; compass 指南针",
        "seaside 海边 #bluewave #看海去": "swimsuit 泳衣; shell 贝壳; kayak 皮划艇",
    },
    "sport 运动": {
        "yoga 瑜伽 #calmbody #慢呼吸": "mat 垫子; bolster 圆枕; towel 毛巾",
        "running 跑步 #fastfeet #风一样": "sneaker 跑鞋; headband 发带; stopwatch 秒表",
    },
    "pets 宠物": {
        "cats 养猫 #meowlife #喵日常": "kitten 小猫; catnip 猫薄荷; scratcher 猫抓板",
        "dogs 养狗 #wagtail #汪日常": "puppy 小狗; leash 牵引绳; frisbee 飞盘",
    },
    "home 家居": {
        "gardening 园艺 #greenhand #种花记": "seed 种子; rose 玫瑰; cactus 仙人掌",
        "decor 装饰 #cosyroom #美家角": "curtain 窗帘; lamp 台灯; vase 花瓶",
    },
    "tech 数码": {
        "phones 手机 #handheld #掌上机": "charger 充电器; stylus 触控笔; headset 耳机",
        "games 游戏 #playmore #玩家说": "console 主机; joystick 手柄; puzzle 拼图",
    },
    "art 艺术": {
        "painting 绘画 #colourful #画一画": "canvas 画布; crayon 蜡笔; easel 画架",
        "music 音乐 #soundon #听见你": "guitar 吉他; piano 钢琴; drum 大鼓",
    },
    "study 学习": {
        "reading 阅读 #bookworm #书虫": "novel 小说; comic 漫画; dictionary 词典",
        "exams 考试 #passnow #上岸": "notebook 笔记本; eraser 橡皮; ruler 尺子",
    },
    "style 时尚": {
        "clothes 穿搭 #outfit #今日搭": "dress 连衣裙; jacket 夹克; scarf 围巾",
        "jewelry 首饰 #sparkle #闪闪的": "necklace 颈链; bracelet 手串; pearl 珍珠",
    },
}


def _subtopics() -> tuple[Subtopic, ...]:
    found = []
    for topic, members in _WORLD.items():
        topic_en, topic_zh = topic.split()
        for head, items in members.items():
            name_en, name_zh, tag_en, tag_zh = head.split()
            found.append(Subtopic(Text(topic_en, topic_zh), Text(name_en, name_zh), Text(tag_en, tag_zh), pairs(items)))
    return tuple(found)


SUBTOPICS = _subtopics()
TOPICS = tuple(dict.fromkeys(subtopic.topic for subtopic in SUBTOPICS))
ITEMS = tuple(item for subtopic in SUBTOPICS for item in subtopic.items)
SUBTOPIC_OF = {item: subtopic for subtopic in SUBTOPICS for item in subtopic.items}

ADJECTIVES = pairs("""nice 不错; pretty 漂亮; cute 可爱; special 特别; simple 简单; famous 有名; tiny 迷你;
    warm 温暖; boring 无聊; strange 奇怪""")
TIMES = pairs("today 今天; tonight 今晚; yesterday 昨天; lately 最近; outside 户外; nearby 附近")
AUDIENCES = pairs("for winter 冬天; for summer 夏天; for beginners 新手; for kids 儿童; for gifts 送礼")

ENTITY_TYPES = pairs("brand 品牌; place 地点; person 人名")
BRANDS = pairs("lumavo 露玛; kestiva 凯思; tiderol 泰朵; brimolo 布莫")
PLACES = pairs("mapleton 枫镇; snowhill 雪岭; moonbay 月湾; redcliff 红崖")
PEOPLE = pairs("anna 安娜; leo 里奥; mia 米娅; finn 芬恩")
NAMES_BY_TYPE = dict(zip(ENTITY_TYPES, (BRANDS, PLACES, PEOPLE), strict=True))

GENDERED_GROUPS = pairs("girls 女生; boys 男生; women 女人; men 男人; ladies 女士")
PLAIN_GROUPS = pairs("neighbours 邻居; classmates 同学; tourists 游客; teachers 老师; friends 朋友")
