"""Hiding what points at one person: e-mail addresses, telephone numbers, and numbers of identity or account papers.

    "Write to mira@harbour.example or ring 020 7946 0958"   →   "Write to <email> or ring <phone>"

An e-mail address has a shape of its own. A number has not: "12-14" is a pair of rooms, 3.11.9 a version, 12.05.2024 a
date, 1,200 a price, and 555-0142 a telephone. So a number is masked on one of two grounds:

- **its structure**: a plus and 8–15 digits (E.164), a bracketed area code, a leading zero with 9–13 grouped digits,
  the groupings 3-3-4, 3-4-4 and 3-4; 3-2-4 for an identity number; a payment card by its four fours or its check
  digit (Luhn), an IBAN by its remainder (ISO 7064), a Chinese resident number by its date of birth (GB 11643);
- **the word before it**: "call", "tel.", "电话" for a telephone of 6–15 digits; "ID", "passport", "account", "身份证"
  for an identity number with at least 5 characters.

and it is left alone when it is a date, a sum, a price or a range of years whatever stands around it.

Paper:   ITU-T E.164 and E.123 (telephone numbers); ISO/IEC 7812-1 (check digit); ISO 13616 (IBAN). Placeholders as
         in Subramani et al. 2023, "Detecting Personal Information in Training Corpora", TrustNLP.
Differs: names and postal addresses are not masked: that takes a model, not a pattern. Rules like these err in both
         directions on real text; the tests list what is known to be caught and what is known to be left.
Next:    minillm/text/mixture.py
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from minillm.text.normalise import HAN


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonalDatum:
    """One find: "email", "phone" or "id", and where it stands: text[start:end]."""

    kind: str
    start: int
    end: int


_AT = r"(?:@|\s?[\[({]\s?at\s?[\])}]\s?)"
_DOT = r"(?:\.|\s?[\[({]\s?dot\s?[\])}]\s?)"
_EMAIL = re.compile(
    rf"(?<![A-Za-z0-9._%+@-])[A-Za-z0-9](?:[A-Za-z0-9._%+-]{{0,63}}[A-Za-z0-9_+-])?{_AT}"
    rf"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{{0,62}}[A-Za-z0-9])?{_DOT}){{1,5}}[A-Za-z]{{2,24}}(?![A-Za-z0-9-]*@)(?![A-Za-z0-9])"
)
_SPOKEN_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._+-]{0,63} at "
    r"(?!(?:the|this|that|a|an|my|your|our) )[A-Za-z0-9-]{1,63}(?: dot [A-Za-z0-9-]{1,63}){0,2}"
    r" dot (?:com|org|net|edu|gov|info|io|co|ac|uk|us|ca|au|de|fr|es|it|nl|se|ch|eu|cn|jp|in|br|example|test)\b",
    re.IGNORECASE,
)

_NUMBER = re.compile(  # groups of digits; a group in brackets may begin it or stand inside
    rf"(?<![^\W{HAN}])(?<![.@/#])(?:\+ ?)?(?:\(\+?\d{{1,5}}\)[ -]?)?\d+"
    rf"(?:(?:[ .\-–‑]| - | ?\(\d{{1,5}}\)[ -]?)\d+)*(?![^\W{HAN}])"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_CHINESE_ID = re.compile(r"(?<![A-Za-z0-9])\d{6}(19\d\d|20\d\d)(\d\d)(\d\d)\d{3}[0-9Xx](?![A-Za-z0-9])")
_PAPER = re.compile(
    r"(?<![A-Za-z0-9])(?=[A-Z0-9-]{0,24}\d{4})(?:[A-Z]{1,4}-?)?\d{3,}(?:-?[A-Z0-9]{1,8}){0,3}(?![A-Za-z0-9])"
)

_PHONE_CUE = re.compile(
    r"(?:\b(?:tele)?phone|\btel|\bcall(?:ed|ing)?|\bcell|\bmobile|\bfax|\bring|\brang|\bdial(?:led)?|\bwhatsapp|\bsms|"
    r"\btext(?: me| us| him| her| them)?|电话|手机|致电|拨打|传真|联系方式|热线)"
    r"(?:\s?(?:me|us|him|her|them|number|no|is|was|on|at|to|号码|号|是|为|请拨))*[\s.:：,(]*$",
    re.IGNORECASE,
)
_ID_CUE = re.compile(
    r"(?:\b(?:id|identity|passport|account|acct|licence|license|card|social security|ssn|insurance|patient|customer|"
    r"member(?:ship)?|student|employee|tax|registration)|身份证|护照|账号|账户|卡号|学号|工号|证件)"
    r"(?:\s?(?:card|number|no|nr|code|is|was|号码|号|是|为))*[\s.:：,#(]*$",
    re.IGNORECASE,
)
_RANGE_CUE = re.compile(
    r"(?:\b(?:pages?|pp?|lines?|rooms?|verses?|between|from|years?|items?|chapters?)|第)[\s.]*$", re.I
)
_MONEY_BEFORE = re.compile(r"(?:[$€£¥₹]|\b(?:USD|EUR|GBP|CNY|RMB))\s?$")
_SUM_BEFORE = re.compile(r"(?:[=×*÷^<>≤≥≈]|\d\s?[+/-])\s?$")
_SUM_AFTER = re.compile(r"\s?(?:[=×*÷^%‰€£¥]|[+/]\s?\d|[-−]\s\d|,\d{3}|\.\d|元|美元|人|年|度)")
_DIGITS_4 = re.compile(r"\d\D?\d\D?\d\D?\d")  # a quick look before the patterns that take longer
_DIGITS_6 = re.compile(r"\d(?:[^\w\n]{0,3}\d){5}")
_DATES = (
    re.compile(r"(?:1[5-9]|20)\d\d[-. –](?:0?[1-9]|1[0-2])[-. –](?:0?[1-9]|[12]\d|3[01])(?: \d{1,2})?"),
    re.compile(r"(?:0?[1-9]|[12]\d|3[01])[-. –](?:0?[1-9]|[12]\d|3[01])[-. –](?:(?:1[5-9]|20)\d\d|\d\d)(?: \d{1,2})?"),
    re.compile(r"(?:1[0-9]|20)\d\d ?[-–] ?(?:1[0-9]|20)\d\d"),
    re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"),
)


def find_personal_data(text: str) -> list[PersonalDatum]:
    """Everything that `mask_personal_data` would mask, in the order of the text, without overlaps.

    >>> [datum.kind for datum in find_personal_data("ring 555-0142 about rooms 12-14, or write to a.b@mail.example")]
    ['phone', 'email']
    """
    found: list[PersonalDatum] = []
    # The sort keeps this order where two start together: an address of digits is an address, not a number.
    for datum in sorted((*_emails(text), *_papers(text), *_numbers(text)), key=lambda datum: datum.start):
        if not found or datum.start >= found[-1].end:
            found.append(datum)
    return found


def mask_personal_data(text: str) -> str:
    """The text with `<email>`, `<phone>` and `<id>` in place of what `find_personal_data` finds.

    >>> mask_personal_data("Passport AB1234567, card 4111 1111 1111 1111, tel. +44 20 7946 0958.")
    'Passport <id>, card <id>, tel. <phone>.'
    >>> mask_personal_data("Version 3.11.9 of 12.05.2024 costs 1,200 euros; 1066-1087; 555 + 142 = 697.")
    'Version 3.11.9 of 12.05.2024 costs 1,200 euros; 1066-1087; 555 + 142 = 697.'
    """
    parts: list[str] = []
    start = 0
    for datum in find_personal_data(text):
        parts += [text[start : datum.start], f"<{datum.kind}>"]
        start = datum.end
    return "".join(parts) + text[start:]


def _emails(text: str) -> Iterator[PersonalDatum]:
    lower = text.lower()
    if any(sign in lower for sign in ("@", "at)", "at]", "at}", "at )", "at ]", "at }", " dot ")):
        for pattern in (_EMAIL, _SPOKEN_EMAIL):
            for match in pattern.finditer(text):
                yield PersonalDatum(kind="email", start=match.start(), end=match.end())


def _papers(text: str) -> Iterator[PersonalDatum]:
    """Identity numbers that hold letters, or prove themselves by a check digit or a date of birth."""
    if not _DIGITS_4.search(text):
        return
    for match in _IBAN.finditer(text):
        if _iban_holds(match[0]):
            yield PersonalDatum(kind="id", start=match.start(), end=match.end())
    for match in _CHINESE_ID.finditer(text):
        if _is_date(*map(int, match.groups())):
            yield PersonalDatum(kind="id", start=match.start(), end=match.end())
    for match in _PAPER.finditer(text):
        if (
            sum(map(str.isalnum, match[0])) >= 5
            and not _is_calendar(match[0])
            and _ID_CUE.search(text[max(0, match.start() - 40) : match.start()])
        ):
            yield PersonalDatum(kind="id", start=match.start(), end=match.end())


def _numbers(text: str) -> Iterator[PersonalDatum]:
    if not _DIGITS_6.search(text):
        return
    for match in _NUMBER.finditer(text):
        if match.end() - match.start() < 6:
            continue
        before, after = text[max(0, match.start() - 40) : match.start()], text[match.end() : match.end() + 8]
        if kind := _kind(match[0], before, after):
            yield PersonalDatum(kind=kind, start=match.start(), end=match.end())


def _kind(number: str, before: str, after: str) -> str | None:
    """What a group of digits is, from its structure and its neighbours."""
    groups = re.findall(r"\d+", number)
    digits = "".join(groups)
    shape = [len(group) for group in groups]
    if not 6 <= len(digits) <= 19:
        return None
    if _MONEY_BEFORE.search(before) or _SUM_BEFORE.search(before) or _SUM_AFTER.match(after):
        return None
    if _is_calendar(number) and not _PHONE_CUE.search(before):
        return None
    if _ID_CUE.search(before):
        return "id"
    if number.startswith("+") and 8 <= len(digits) <= 15:
        return "phone"
    if shape == [3, 2, 4] or _is_card_layout(groups) or (len(digits) >= 13 and _is_card(digits, shape)):
        return "id"
    if len(digits) <= 15 and (_PHONE_CUE.search(before) or _is_phone(number, digits, shape, before)):
        return "phone"
    return None


def _is_calendar(number: str) -> bool:
    """A date, or a range of years."""
    return any(pattern.fullmatch(number) for pattern in _DATES)


def _is_phone(number: str, digits: str, shape: list[int], before: str) -> bool:
    if "(" in number:
        return 7 <= len(digits) <= 13 and 2 <= number.find(")") - number.find("(") - 1 <= 5
    if shape in ([3, 3, 4], [3, 4, 4], [1, 3, 3, 4]):
        return "." not in number or shape != [1, 3, 3, 4]
    if shape == [3, 4]:  # 555-0142; rarely a range, and then a word says so
        return "." not in number and not _RANGE_CUE.search(before)
    if digits.startswith("0"):
        return shape == [11] or (len(shape) > 1 and shape[0] > 1 and 9 <= len(digits) <= 13 and "." not in number)
    return shape == [11] and digits[0] == "1" and digits[1] in "3456789"  # a Chinese mobile number


def _is_card_layout(groups: list[str]) -> bool:
    """Four groups of four: a card, whether its check digit is right or mistyped; but not a row of years."""
    return [len(group) for group in groups] == [4, 4, 4, 4] and any(not 1000 <= int(group) < 2100 for group in groups)


def _is_card(digits: str, shape: list[int]) -> bool:
    """13–19 digits in one piece, or in fours (or 4-6-5), with a valid Luhn check digit."""
    if shape not in ([len(digits)], [4, 6, 5]) and any(size != 4 for size in shape[:-1]):
        return False
    doubled = (2 * int(d) if i % 2 else int(d) for i, d in enumerate(reversed(digits)))
    return len(set(digits)) > 1 and sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _iban_holds(iban: str) -> bool:
    compact = iban.replace(" ", "")
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
