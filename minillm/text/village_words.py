"""The words of the village: names, homes, jobs, things, in English and Chinese, and the part of speech of every word.

Chinese counts with a measure word ("one 只 cat"), so things carry theirs.

Next:    minillm/text/village_stories.txt
"""

from typing import NamedTuple


class Job(NamedTuple):
    """A job, the place where it is done, and both in Chinese."""

    place: str
    zh: str
    zh_place: str


class Thing(NamedTuple):
    """A countable thing: plural, Chinese, Chinese measure word."""

    plural: str
    zh: str
    measure: str


def _pairs(text: str) -> dict[str, str]:
    items = text.split()
    return dict(zip(items[::2], items[1::2], strict=True))


WOMEN = _pairs("""
    Anna 安娜 Bella 贝拉 Clara 克拉拉 Dina 迪娜 Emma 艾玛 Fatima 法蒂玛 Greta 格蕾塔 Hanna 汉娜 Ines 伊内丝 Julia 朱莉娅
    Kira 基拉 Lena 莱娜 Mei 小梅 Nora 诺拉 Olga 奥尔加 Priya 普里娅 Rosa 罗莎 Sara 萨拉 Tara 塔拉 Vera 薇拉 Wanda 旺达
    Yuki 由纪 Zoe 佐伊 Alma 阿尔玛 Carla 卡拉 Edda 埃达 Frida 弗丽达 Gina 吉娜 Hilda 希尔达 Irma 伊尔玛
    Lucy 露西 Mona 莫娜
""")
MEN = _pairs("""
    Adam 亚当 Bruno 布鲁诺 Carlo 卡洛 David 大卫 Emil 埃米尔 Felix 费利克斯 Goran 戈兰 Hugo 雨果 Ivan 伊万 Jonas 约纳斯
    Kofi 科菲 Leo 里奥 Max 马克斯 Nils 尼尔斯 Omar 奥马尔 Peter 彼得 Ravi 拉维 Simon 西蒙 Tom 汤姆 Viktor 维克托
    Walter 沃尔特 Yusuf 优素福 Amir 阿米尔 Boris 鲍里斯 Dario 达里奥 Erik 埃里克 Finn 芬恩 Gustav 古斯塔夫 Henry 亨利
    Igor 伊戈尔 Jakob 雅各布 Luca 卢卡
""")
CHILD = {"she": "daughter", "he": "son"}
HOMES = _pairs(
    "hill 小山 river 小河 lake 湖 forest 森林 bridge 桥 square 广场 tower 塔楼 sea 大海 field 田野 station 车站"
)
JOBS = {
    "baker": Job("bakery", "面包师", "面包房"),
    "farmer": Job("farm", "农夫", "农场"),
    "teacher": Job("school", "老师", "学校"),
    "doctor": Job("hospital", "医生", "医院"),
    "fisher": Job("harbour", "渔民", "港口"),
    "miller": Job("mill", "磨坊主", "磨坊"),
    "gardener": Job("garden", "园丁", "花园"),
    "smith": Job("forge", "铁匠", "铁匠铺"),
    "librarian": Job("library", "图书管理员", "图书馆"),
    "cook": Job("inn", "厨师", "客栈"),
}
FOODS = _pairs("apples 苹果 bread 面包 soup 汤 cake 蛋糕 cheese 奶酪 plums 李子 honey 蜂蜜 fish 鱼 pears 梨 nuts 坚果")
ANIMALS = {
    "cat": Thing("cats", "猫", "只"),
    "dog": Thing("dogs", "狗", "条"),
    "goat": Thing("goats", "山羊", "头"),
    "hen": Thing("hens", "母鸡", "只"),
    "rabbit": Thing("rabbits", "兔子", "只"),
    "duck": Thing("ducks", "鸭子", "只"),
    "lamb": Thing("lambs", "羊羔", "头"),
    "donkey": Thing("donkeys", "驴", "头"),
}
HERD = ("goat", "hen", "rabbit", "duck", "lamb")  # what a fox may take
SHORES = ("hill", "lake", "forest", "bridge", "tower", "sea")  # homes that a boat can come to
DISHES = ("apples", "cheese", "plums", "honey", "fish", "pears", "nuts")  # what goes into a soup
THINGS = {
    "kite": Thing("kites", "风筝", "只"),
    "ball": Thing("balls", "皮球", "个"),
    "drum": Thing("drums", "鼓", "面"),
    "book": Thing("books", "书", "本"),
    "hat": Thing("hats", "帽子", "顶"),
    "lamp": Thing("lamps", "灯", "盏"),
    "bell": Thing("bells", "铃铛", "个"),
    "doll": Thing("dolls", "布娃娃", "个"),
    "scarf": Thing("scarves", "围巾", "条"),
    "cup": Thing("cups", "杯子", "个"),
}
COLOURS = _pairs("red 红色 blue 蓝色 green 绿色 yellow 黄色 white 白色 black 黑色 brown 棕色 grey 灰色")
