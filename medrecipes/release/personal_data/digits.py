"""Check digits: whether a number can be what it looks like, so that a number of another kind raises no alarm."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import date


def numerals(text: str) -> list[int]:
    """The digits of a text as numbers."""
    return [int(c) for c in text if c.isdecimal()]


def _weighed(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(d * w for d, w in zip(digits, weights, strict=False))


def luhn(text: str) -> bool:
    """Payment cards, IMEI, and behind 80840 the American NPI: every second digit doubled, the sum ends in 0."""
    digits = numerals(text)[::-1]
    return len(digits) > 1 and sum(sum(divmod(d * (1 + i % 2), 10)) for i, d in enumerate(digits)) % 10 == 0


def card(text: str) -> bool:
    """Luhn's sum passes one number in ten by chance, so a payment card must begin and be as long as one too."""
    digits = re.sub(r"\D", "", text)
    return bool(
        re.fullmatch(r"4(?:\d{12}|\d{15})|(?:5\d|6\d|2[2-7])\d{14}|3[47]\d{13}|3[068]\d{12}|35\d{14}", digits)
    ) and luhn(digits)


def npi(text: str) -> bool:
    """The American provider's number."""
    digits = re.sub(r"\D", "", text)
    return len(digits) == 10 and digits[0] in "12" and luhn("80840" + digits)


def dea(text: str) -> bool:
    """The American prescriber's number: two letters and seven digits, the last of which is checked."""
    d = numerals(text)
    return len(d) == 7 and (d[0] + d[2] + d[4] + 2 * (d[1] + d[3] + d[5])) % 10 == d[6]


def social_security(text: str) -> bool:
    """American; it has no check digit, but numbers that are never given."""
    digits = re.sub(r"\D", "", text)
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return len(digits) == 9 and area not in ("000", "666") and group != "00" and serial != "0000"


def nhs(text: str) -> bool:
    """England's patient number: ten digits, weights ten to two, modulo 11."""
    d = numerals(text)
    return len(d) == 10 and len(set(d)) > 1 and (11 - _weighed(d[:9], range(10, 1, -1)) % 11) % 11 == d[9]


def idnr(text: str) -> bool:
    """The German tax number: eleven digits, of the first ten one stands there twice or thrice; modulo 11 and 10."""
    d = numerals(text)
    if len(d) != 11 or d[0] == 0 or sorted(Counter(d[:10]).values())[-2:] not in ([1, 2], [1, 3]):
        return False
    product = 10
    for digit in d[:10]:
        product = (digit + product) % 10 or 10
        product = product * 2 % 11
    return (11 - product) % 10 == d[10]


def kvnr(text: str) -> bool:
    """The German patient's number: a letter and nine digits, the last of which is checked."""
    d = numerals(f"{ord(text[0].upper()) - 64:02}{text[1:]}")
    return len(d) == 11 and sum(sum(divmod(n * (1 + i % 2), 10)) for i, n in enumerate(d[:10])) % 10 == d[10]


def nir(text: str) -> bool:
    """The French social security number: thirteen characters and what is left of them modulo 97."""
    plain = re.sub(r"\W", "", text).upper()
    number = plain[:13].replace("2A", "19").replace("2B", "18")
    return (
        len(plain) == 15 and number.isdecimal() and plain[13:].isdecimal() and 97 - int(number) % 97 == int(plain[13:])
    )


def dni(text: str) -> bool:
    """The Spanish identity card, and that of foreigners: the letter says what is left modulo 23."""
    plain = re.sub(r"\W", "", text).upper()
    digits = plain[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return digits.isdecimal() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == plain[-1]


ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
               (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
               strict=True))  # fmt: skip


def codice_fiscale(text: str) -> bool:
    """The Italian tax code: fifteen characters and a letter that is worked out of them."""
    plain = re.sub(r"\W", "", text).upper()
    if len(plain) != 16 or not plain.isascii():
        return False
    total = sum(
        ODD[c] if i % 2 == 0 else int(c, 36) % 10 if c.isdecimal() else ord(c) - 65 for i, c in enumerate(plain[:15])
    )
    return chr(65 + total % 26) == plain[15]


def cpf(text: str) -> bool:
    """The Brazilian taxpayer's number: two check digits, modulo 11."""
    d = numerals(text)
    if len(d) != 11 or len(set(d)) == 1:
        return False
    return all(_weighed(d[:n], range(n + 1, 1, -1)) * 10 % 11 % 10 == d[n] for n in (9, 10))


def cns(text: str) -> bool:
    """The Brazilian health card: fifteen digits, modulo 11."""
    d = numerals(text)
    return len(d) == 15 and d[0] in (1, 2, 7, 8, 9) and _weighed(d, range(15, 0, -1)) % 11 == 0


def my_number(text: str) -> bool:
    """The Japanese number: twelve digits, the last of which is checked."""
    d = numerals(text)
    if len(d) != 12 or len(set(d)) < 3:
        return False
    rest = _weighed(d[10::-1], (2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6)) % 11
    return (0 if rest <= 1 else 11 - rest) == d[11]


def resident(text: str) -> bool:
    """The Chinese identity number: a district, a date of birth, and a last character modulo 11."""
    plain = re.sub(r"\W", "", text).upper()
    if len(plain) != 18 or not plain[:17].isdecimal():
        return False
    try:
        date(int(plain[6:10]), int(plain[10:12]), int(plain[12:14]))
    except ValueError:
        return False
    return "10X98765432"[_weighed(numerals(plain[:17]), [2**p % 11 for p in range(17, 0, -1)]) % 11] == plain[17]


# Verhoeff's tables: the group of a pentagon's turns and flips, and what is done to a digit at each place
_TURN = [[(a + b) % 5 if a < 5 and b < 5 else 5 + (a + b) % 5 if a < 5 else 5 + (a - b) % 5 if b < 5 else (a - b) % 5
          for b in range(10)] for a in range(10)]  # fmt: skip
_MOVED = [list(range(10))]
for _ in range(7):
    _MOVED.append([_MOVED[-1][n] for n in (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)])


def verhoeff(text: str) -> bool:
    """A sum that notices swapped neighbours."""
    total = 0
    for place, digit in enumerate(numerals(text)[::-1]):
        total = _TURN[total][_MOVED[place % 8][digit]]
    return total == 0


def aadhaar(text: str) -> bool:
    """The Indian number: twelve digits, the first above 1, by Verhoeff."""
    d = numerals(text)
    return len(d) == 12 and d[0] > 1 and d != d[::-1] and verhoeff(text)


# how long an account number is where it is most often met
IBAN = {"AT": 20, "BE": 16, "CH": 21, "DE": 22, "DK": 18, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "IE": 22, "IT": 27,
        "LU": 20, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "SE": 24, "BR": 29, "GR": 27, "CZ": 24, "TR": 26, "AE": 23}  # fmt: skip


def iban(text: str) -> bool:
    """An account number: moved round and read as one number, it leaves 1 modulo 97."""
    plain = re.sub(r"\W", "", text).upper()
    if not plain.isascii() or len(plain) != IBAN.get(plain[:2], 0):
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


_VIN = {**{str(n): n for n in range(10)}, **dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ",
        (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))}  # fmt: skip


def vin(text: str) -> bool:
    """A vehicle's number: seventeen characters, the ninth of which is checked (in America, and by chance elsewhere)."""
    plain = text.upper()
    if len(plain) != 17 or not set(plain) <= set(_VIN) or plain.isdecimal() or plain.isalpha():
        return False
    rest = _weighed([_VIN[c] for c in plain], (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return plain[8] == ("X" if rest == 10 else str(rest))


def imei(text: str) -> bool:
    """A telephone's own number: fifteen digits by Luhn."""
    return len(numerals(text)) == 15 and luhn(text)
