"""Our taxonomy of what rows are about: areas, topics, and the English and Chinese keywords that show a topic.

Ten areas with about five topics each: few enough that a small model or a person can name them, and every one is met
in SNS or general instruction data. English keywords are matched as whole words (with a plural s), Chinese ones
anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Category(NamedTuple):
    """A label of two levels."""

    area: str
    topic: str

    @property
    def text(self) -> str:
        """`area / topic`."""
        return f"{self.area} / {self.topic}"


UNLABELLED = Category("other", "unlabelled")

_KEYWORDS: Mapping[str, Mapping[str, str]] = {
    "social platform": {
        "topics and tags": (
            "hashtag, tag, candidate tags, topic of the note, taxonomy, category of the post, "
            "话题标签, 标签, 话题, 笔记分类, 类目"
        ),
        "content safety": (
            "hate speech, offensive, spam, moderation, personal attack, violation, policy, toxic, "
            "safety review, "
            "违规, 敏感, 辱骂, 攻击性, 色情, 广告引流, 审核"
        ),
        "search and queries": (
            "query, search query, search intent, keyword search, relevance, click, clicked note, "
            "搜索, 查询词, 检索, 相关性, 点击, 搜索词"
        ),
        "reading notes": (
            "note, the post, reading comprehension, passage, named entity, entities, highlight word, "
            "comment section, "
            "笔记, 帖子, 阅读理解, 实体, 划线, 正文"
        ),
        "users and accounts": (
            "follower, influencer, blogger, vlogger, account, persona, user profile, gender, "
            "粉丝, 博主, 账号, 人设, 用户画像, 性别"
        ),
    },
    "mathematics": {
        "word problems": (
            "how many, how much, in total, altogether, per hour, per week, each day, twice as many, "
            "half as many, calculate, next number, divide, multiply, subtract, sum of, add the, numbers, "
            "多少个, 一共, 计算, 总共, 平均每, 除以, 总和, 乘以, 相加, 数字"
        ),
        "algebra": (
            "equation, solve for, polynomial, function f, variable x, inequality, matrix, derivative, "
            "integral, "
            "方程, 函数, 未知数, 不等式, 矩阵, 导数, 积分, 求解"
        ),
        "geometry": (
            "triangle, circle, rectangle, area of, perimeter, angle, radius, volume of, cube, "
            "三角形, 圆形, 矩形, 面积, 周长, 角度, 半径, 体积"
        ),
        "statistics and chance": (
            "probability, standard deviation, median, average of, mean of, random variable, dice, "
            "概率, 平均值, 平均数, 中位数, 标准差, 方差, 骰子"
        ),
    },
    "programming": {
        "writing code": (
            "python, javascript, java, c++, function that, code, algorithm, program, script, implement, html, "
            "css, "
            "代码, 编写程序, 编程, 函数实现, 算法, 脚本, 程序"
        ),
        "data and databases": (
            "sql, database, dataset, csv, json, data structure, array, binary tree, "
            "数据库, 数据集, 数据结构, 数组, 二叉树, 表格数据"
        ),
        "software and systems": (
            "software, operating system, server, linux, api, debug, git, docker, website, bug, "
            "软件, 操作系统, 服务器, 接口, 调试, 网站, 手机应用"
        ),
        "machine learning": (
            "machine learning, neural network, deep learning, artificial intelligence, ai, classifier, "
            "natural language processing, "
            "机器学习, 神经网络, 深度学习, 人工智能, 自然语言处理, 模型训练"
        ),
    },
    "writing": {
        "stories and poems": (
            "story, poem, haiku, fairy tale, lyrics, plot, character, fiction, rhyme, metaphor, song, rap, "
            "dialogue, dialog, joke, limerick, "
            "故事, 诗, 歌词, 童话, 小说, 情节, 寓言, 笑话, 比喻, 对话, 歌曲, 梗, 剧本"
        ),
        "essays and articles": (
            "essay, article, blog post, paragraph, report, speech, review, microblog, persuasive argument, "
            "introduction, "
            "文章, 作文, 散文, 报告, 演讲, 段落, 评论文, 致辞, 论文"
        ),
        "letters and marketing": (
            "email, letter, slogan, advertisement, resume, cover letter, invitation, tagline, "
            "product description, press release, poster, brochure, thank you note, "
            "邮件, 写信, 口号, 广告, 简历, 邀请函, 广告语, 产品描述, 文案, 海报, 感谢信, 求职信, 宣传"
        ),
        "editing": (
            "rewrite, edit, rephrase, paraphrase, proofread, reword, revise, shorten, replace the, re-write, "
            "rearrange, modify the, adapt the, redact, combine the, convert the sentence, "
            "改写, 重写, 修改, 润色, 编辑, 替换, 缩写, 转换成, 重述, 更改, 合并, 简化"
        ),
        "summaries and titles": (
            "summarize, summarise, summary, main idea, headline, title for, key points, outline, "
            "总结, 概括, 摘要, 主旨, 标题, 要点, 大纲"
        ),
    },
    "language": {
        "translation": (
            "translate, translation, in french, in spanish, into english, into chinese, "
            "翻译, 译成, 译文, 英文怎么说, 翻成"
        ),
        "grammar and words": (
            "grammar, grammatical, verb, noun, adjective, tense, pronoun, punctuation, synonym, antonym, "
            "sentence structure, spelling, sentence, phrase, word, proverb, idiom, homophone, vocabulary, "
            "语法, 动词, 名词, 形容词, 时态, 同义词, 反义词, 标点, 造句, 成语, 句子, 短语, 单词, 谚语, 语态, "
            "词语, 用词"
        ),
        "classifying texts": (
            "classify, sentiment, categorize, label the, identify whether, positive or negative, "
            "determine the type, identify the type, multiple choice, sort the, "
            "分类, 情感分析, 情感倾向, 归类, 判断下列, 判断以下, 找出情感, 类型"
        ),
        "generating lists": (
            "list of, list five, list three, give three, give five, name three, examples of, generate a list, "
            "brainstorm, list the, identify three, identify two, find two, come up with three, to do list, "
            "keyword, "
            "列出, 列举, 举例, 举出, 给出三个, 清单, 列表, 例子, 给出两个, 找出两个, 关键词, 说出三个"
        ),
    },
    "science": {
        "physics and chemistry": (
            "physics, chemistry, chemical, atom, molecule, energy, force, gravity, electron, reaction, light, "
            "temperature, "
            "物理, 化学, 原子, 分子, 能量, 重力, 电子, 反应, 光合, 温度"
        ),
        "biology and medicine": (
            "biology, cell, dna, species, animal, plant, disease, vaccine, virus, brain, medicine, organ, "
            "human body, dehydration, symptom, "
            "生物, 细胞, 物种, 动物, 植物, 疾病, 疫苗, 病毒, 大脑, 医学, 药物, 人体, 症状"
        ),
        "earth and environment": (
            "climate, environment, pollution, ocean, planet, earth, global warming, sustainable, "
            "renewable energy, forest, weather, plastic waste, recycle, recycling, solar system, "
            "气候, 环境, 污染, 海洋, 行星, 地球, 可持续, 可再生能源, 森林, 环保, 天气, 温室效应, 回收, 星球"
        ),
        "technology": (
            "technology, internet, computer, blockchain, robot, cloud computing, virtual reality, smartphone, "
            "router, electric car, cryptocurrency, browser, device, "
            "技术, 互联网, 电脑, 计算机, 区块链, 机器人, 云计算, 虚拟现实, 智能手机, 科技, 路由器, 电动汽车, "
            "加密货币, 浏览器, 设备"
        ),
    },
    "society": {
        "history and geography": (
            "history, historical, war, century, capital of, country, empire, president, dynasty, city, "
            "mountain, river, state, united states, continent, "
            "历史, 战争, 世纪, 首都, 国家, 朝代, 皇帝, 总统, 城市, 河流, 地理, 位于"
        ),
        "law and politics": (
            "law, legal, government, election, policy maker, politics, rights, constitution, "
            "法律, 政府, 选举, 政治, 权利, 宪法, 政策"
        ),
        "business and money": (
            "business, company, marketing, customer, economy, invest, stock, budget, finance, startup, bank, "
            "商业, 公司, 企业, 营销, 客户, 经济, 投资, 股票, 预算, 金融, 创业, 银行"
        ),
        "learning and work": (
            "student, teacher, school, education, study, university, exam, job, career, interview, "
            "presentation, quiz, employee, "
            "学生, 老师, 学校, 教育, 学习, 大学, 考试, 工作, 职业, 面试, 职场, 员工, 毕业, 课程"
        ),
        "arts and culture": (
            "art, music, painting, film, movie, book, novel, author, culture, philosophy, religion, festival, "
            "艺术, 音乐, 绘画, 电影, 书籍, 作家, 文化, 哲学, 宗教, 节日, 文学"
        ),
    },
    "daily life": {
        "food": (
            "recipe, cook, cooking, dish, ingredient, meal, restaurant, food, bake, coffee, "
            "食谱, 烹饪, 菜, 食材, 餐厅, 美食, 烘焙, 咖啡, 好吃, 做法"
        ),
        "travel": (
            "travel, trip, hotel, flight, tourist, itinerary, vacation, destination, "
            "旅行, 旅游, 酒店, 航班, 景点, 行程, 度假, 目的地, 攻略"
        ),
        "beauty and fashion": (
            "makeup, skincare, skin care, outfit, fashion, hair, dress, lipstick, "
            "化妆, 护肤, 穿搭, 时尚, 发型, 裙子, 口红, 美妆, 面膜"
        ),
        "health and fitness": (
            "health, exercise, workout, diet, weight, sleep, yoga, fitness, healthy, "
            "健康, 锻炼, 运动, 饮食, 减肥, 睡眠, 瑜伽, 健身, 体重"
        ),
        "home and family": (
            "home, house, baby, parent, child, children, family, furniture, garden, cleaning, pet, dog, cat, "
            "家居, 房子, 宝宝, 父母, 孩子, 家庭, 家具, 花园, 清洁, 宠物, 猫, 狗, 装修"
        ),
        "sports and games": (
            "football, basketball, soccer, game, team, player, video game, tennis, match, "
            "足球, 篮球, 游戏, 球队, 球员, 网球, 比赛"
        ),
    },
    "feelings": {
        "support": (
            "depressed, depression, anxious, anxiety, stress, sad, lonely, overwhelmed, feeling down, i feel, "
            "cry, "
            "抑郁, 焦虑, 压力, 难过, 孤独, 崩溃, 伤心, 心情不好, 想哭"
        ),
        "relationships": (
            "boyfriend, girlfriend, break up, broke up, relationship, marriage, divorce, friendship, "
            "my husband, my wife, dating, "
            "男朋友, 女朋友, 分手, 恋爱, 结婚, 离婚, 友情, 老公, 老婆, 对象, 婚姻"
        ),
        "small talk": (
            "hello, hi, how are you, thanks, haha, lol, good morning, good night, nice to meet you, see you, "
            "哈哈, 你好, 嘻嘻, 呵呵, 早安, 晚安, 谢谢, 嘿嘿, 生日快乐, 加油, 啊, 呀, 嘛, 哦, 吧, 呢, 啦, 咯, "
            "嗯, 哟, 亲, 嘞"
        ),
    },
    "reasoning": {
        "logic": ("puzzle, riddle, logic, deduce, infer, conclude, paradox, 谜语, 推理, 逻辑, 推断, 悖论, 脑筋急转弯"),
        "comparing and explaining": (
            "compare, contrast, difference between, explain, describe, pros and cons, advantages, why is, "
            "why do, analyze, analyse, characteristics, meaning of, what is the purpose, benefits of, "
            "比较, 区别, 对比, 解释, 描述, 优缺点, 优势, 为什么, 说明, 分析, 特点, 原因, 含义, 意思"
        ),
        "planning and advice": (
            "plan, strategy, steps to, how to, how can i, tips, advice, suggest, recommend, design a, "
            "solution, ways to, improve, come up with, scenario, "
            "计划, 策略, 步骤, 如何, 怎么, 建议, 推荐, 设计一个, 方案, 方式, 改进, 创意, 解决"
        ),
    },
}

KEYWORDS: Mapping[Category, tuple[str, ...]] = {
    Category(area, topic): tuple(word.strip() for word in words.split(","))
    for area, topics in _KEYWORDS.items()
    for topic, words in topics.items()
}
"""Keywords of each category; where two have equally many in a text, the one that stands first here is taken."""
