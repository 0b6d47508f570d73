"""A dictionary of the village, English to Chinese, and the translation that needs nothing else: word by word.

The floor under every translator of chapters 06 and 07: it knows every word and no order. Its score says how much of a
translation is words, and what is left to learn.

Next:    minillm/course/checks_07.py
"""

from collections.abc import Callable, Sequence

from minillm.statistical.metrics import corpus_bleu
from minillm.text import village_words as words
from minillm.text.tokenizer import WordTokenizer
from minillm.text.village import Village

RULES_START = 600_000  # the sentences on which exercise 07.rules is judged
_SMALL = """
    bought 买了 found 找到了 lost 丢了 painted 画了 gave 送给 sold 卖了 showed 给 hid 藏起了 broke 打碎了 a 一
    two 两 three 三 by 边 at 在 of 的 than 比 and 和 will 就会 If 如果 because 因为 There 有 know 知道 not 不
    where 在哪里 when 什么时候 why 为什么 bigger 大 smaller 小 older 旧 newer 新 eat 吃 like 喜欢 smell 闻到
    Monday 星期一 Tuesday 星期二 Friday 星期五 Sunday 星期日 morning 早上 evening 晚上 night 夜里 he 他 she 她
    sings 唱歌 reads 看书 eats 吃 gives 分发 sing 唱歌 read 看书 sleep 睡觉 happy 很高兴 tired 累了 alone 很孤单
    rains 下雨 snows 下雪 behind 后面 beside 旁边 front 前面 . 。 , ，
"""


def village_dictionary() -> dict[str, str]:
    """The Chinese for the words of the village's translations; words without one, such as "the", are missing.

    >>> village_dictionary()["kite"], "the" in village_dictionary()
    ('风筝', False)
    """
    known = words.WOMEN | words.MEN | words.HOMES | words.FOODS | words.COLOURS
    for name, thing in (words.THINGS | words.ANIMALS).items():
        known |= {name: thing.zh, thing.plural: thing.zh}
    for name, job in words.JOBS.items():
        known |= {name: job.zh, job.place: job.zh_place}
    small = _SMALL.split()
    return known | dict(zip(small[::2], small[1::2], strict=True))


def measure_words() -> dict[str, str]:
    """The measure word that stands between a number and each countable thing: 一只风筝, one (piece of) kite.

    >>> measure_words()["kite"], measure_words()["books"]
    ('只', '本')
    """
    things = words.THINGS | words.ANIMALS
    return {name: thing.measure for word, thing in things.items() for name in (word, thing.plural)}


def word_by_word(english: Sequence[str], dictionary: dict[str, str]) -> str:
    """A translation without any rule: look up each word, leave out what is not there.

    >>> word_by_word(["Tom", "found", "a", "kite", "."], village_dictionary())
    '汤姆找到了一风筝。'
    """
    return "".join(dictionary.get(word, "") for word in english)


def bleu_of_characters(answers: Sequence[str], references: Sequence[str]) -> float:
    """BLEU of Chinese texts, 0 to 100: each character is a word, as in sacrebleu's `zh`.

    >>> round(bleu_of_characters(["我有一只猫。"], ["我有一只黑猫。"]), 1)
    51.2
    """
    return corpus_bleu([list(text) for text in answers], [[list(text)] for text in references])


def rules_bleu(
    translate: Callable[[list[str], dict[str, str], dict[str, str]], str], start: int = RULES_START, n: int = 200
) -> float:
    """The score of exercise 07.rules: BLEU of `translate(words, dictionary, measures)` on n sentences of the village.

    >>> 30 < rules_bleu(lambda english, dictionary, measures: word_by_word(english, dictionary)) < 45
    True
    """
    pairs = Village(seed=0).translations(n, start=start)
    dictionary, measures = village_dictionary(), measure_words()
    answers = [translate(WordTokenizer.split(english), dictionary, measures) for english, _ in pairs]
    return bleu_of_characters(answers, [chinese for _, chinese in pairs])
