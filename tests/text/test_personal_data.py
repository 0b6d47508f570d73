"""What the masker catches and what it leaves: hand-written cases, none of them from a generator."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.text.personal_data import find_personal_data, mask_personal_data

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises

EMAILS = [
    "mira@harbour.example",
    "a.b-c+d_e@mail.sub.example.org",
    "7seas@x.co",
    "UPPER@CASE.ORG",
    "mira (at) harbour (dot) example",
    "mira[at]harbour.example",
    "mira at harbour dot example",
]
PHONES = [
    "+44 20 7946 0958",
    "+1 (212) 555-0142",
    "+8613812345678",
    "(0161) 496 0123",
    "(212) 555-0142",
    "212-555-0142",
    "212.555.0142",
    "020 7946 0958",
    "01 23 45 67 89",
    "555-0142",
    "13812345678",
    "138-1234-5678",
    "010-62345678",
    "1-800-555-0199",
]
PAPERS = [
    "219-09-9999",  # 3-2-4
    "4111 1111 1111 1111",  # Luhn holds
    "5500-0000-0000-0004",
    "378282246310005",
    "3782 822463 10005",
    "11010519491231002X",  # a date of birth in it
    "GB82 WEST 1234 5698 7654 32",  # remainder holds
    "DE89370400440532013000",
]
WITH_CUE = [
    ("call 6234 5678 today", "call <phone> today"),
    ("Tel.: 62 34 56", "Tel.: <phone>"),
    ("my phone number is 987654321.", "my phone number is <phone>."),
    ("电话：6234 5678。", "电话：<phone>。"),
    ("手机号13812345678，谢谢", "手机号<phone>，谢谢"),
    ("Passport AB1234567 was lost", "Passport <id> was lost"),
    ("passport no. 123456789", "passport no. <id>"),
    ("her ID is 48213-7731.", "her ID is <id>."),
    ("account number: 00112233", "account number: <id>"),
    ("account: 12 34 56 78", "account: <id>"),
    ("customer #123456", "customer #<id>"),
    ("身份证号码：110105199003071234。", "身份证号码：<id>。"),
    ("licence X-1234-567", "licence <id>"),
]
INNOCENT = [
    "Rooms 12-14 and rooms 100-2000 are closed.",
    "Python 3.11.9, version 10.0.19045.3803, address 192.168.0.1",
    "It costs $1,299.99, 1.200.000 euros, £12 500 or 12500000 yen.",
    "£123 456 7890 is money, and so is 123 456 7890 €.",
    "On 2024-05-12, 12/05/2024, 12.05.2024 and 12-05-2024; 20240512; 2024-05-12 18 30.",
    "From 1939-1945 and 1066 - 1087; pages 123-4567; lines 100-1000",
    "123 + 456 = 579; 123456 * 789012 = 97408265472; 1000000 - 999999 = 1; 555-0142=413",
    "3.14159265358979 and 6.02214076e23 and 0.000001234567",
    "The village has 1400000000 grains of rice and 1 000 000 leaves.",
    "At 18:30:15 on track 4 the 7.45 left.",
    "Registration: 12.05.2024; membership 1999-2024.",
    "GB82 WEST 1234 5698 7654 35 has a wrong remainder.",
    "Scores: 12 13 14 15",
    "He was 30 in 1999 and 40 in 2009.",
    "Call me Ishmael. Meet me at the dot on the map. Look at this dot com crash.",
    "@mira wrote on #2024 about a@b and @ and user@localhost",
    "Chapter 555, verse 0142; item 12345; bus 1234567",
    "<email>, <phone> and <id>",
    "ISBN 978-3-16-148410-0",
    "SHA-256 5500000000000004aa and a hash 86c4e6aa9db7",
    "4111111111111112 fails the check, 0000000000000000 is nothing, 1914 1918 1939 1945 are years.",
    "In identity card games 12 points win; the student scored 4 of 5.",
    "共1234567人，售价123456元。",
    "99999919991345123X has no month 13 in it",
]


@pytest.mark.parametrize(
    ("kind", "value"),
    [(k, v) for k, vs in zip(("email", "phone", "id"), (EMAILS, PHONES, PAPERS), strict=True) for v in vs],
)
def test_what_has_a_structure_is_caught_in_any_sentence(kind, value):
    for frame in ("{}", "Write to {}, or not.", "({})", "see: {}.", "“{}”", "请写{}。", "a\n{}\nb", "{}; {}"):
        assert mask_personal_data(frame.replace("{}", value)) == frame.replace("{}", f"<{kind}>"), frame


@pytest.mark.parametrize(("text", "wanted"), WITH_CUE)
def test_what_needs_a_word_before_it(text, wanted):
    assert mask_personal_data(text) == wanted


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_left_alone(text):
    assert mask_personal_data(text) == text


@pytest.mark.parametrize("text", [*EMAILS, *PHONES, *PAPERS, *(raw for raw, _ in WITH_CUE), *INNOCENT])
def test_masking_twice_is_masking_once(text):
    once = mask_personal_data(text)
    assert mask_personal_data(once) == once


@given(st.text(alphabet="0123456789 +-().@abAB/=x电", max_size=60))
def test_finds_are_in_order_apart_and_inside_the_text(text):
    found = find_personal_data(text)
    at = 0
    for datum in found:
        assert at <= datum.start < datum.end <= len(text) and datum.kind in ("email", "phone", "id")
        at = datum.end


@pytest.mark.parametrize("bad", ["1", "1-", "a.", "a@", "a@a.", "(at)", "+1 ", "A1", "(1", "1 1) ", "AB12 "])
def test_a_hostile_text_takes_no_more_than_its_length(bad):
    text = bad * (60_000 // len(bad))
    start = time.process_time()
    mask_personal_data(text)
    assert time.process_time() - start < 5  # a quadratic rule takes a minute
