"""Numbers that are somebody's: by the label before them, by their check digits, or by the shape of a country's telephones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from medrecipes.release.personal_data import digits
from medrecipes.release.personal_data.labels import ENDINGS, FILLERS, NUMBER_WORDS, STRONG, TELEPHONE, WEAK
from medrecipes.release.personal_data.rule import Place, Seen, around, bag

# where digits stand close together: all that is below looks at nothing else, which is little of most texts
ZONE = re.compile(r"\d(?:[^\d\n]{0,4}\d){3,}")
MARGINS = 12, 16


def find(seen: Seen) -> Iterator[Place]:
    """All numbers of a text that point at a person or at what is theirs."""
    text = seen.text
    for start, end in zones(text):
        yield from _labelled(text, start, end)
        for kind, pattern, counts in SHAPES:
            for match in pattern.finditer(text, start, end):
                if counts is None or counts(match[0]):
                    yield kind, match.start(), match.end()
        for match in NATIONAL.finditer(text, start, end):
            if _is_telephone(match["number"]):
                yield "telephone", match.start(), match.end()


def zones(text: str, margins: tuple[int, int] = MARGINS) -> Iterator[tuple[int, int]]:
    """Stretches of text with digits in them, with a little on either side; where two touch they are one."""
    start = end = -1
    for match in ZONE.finditer(text):
        left, right = max(0, match.start() - margins[0]), match.end() + margins[1]
        if left > end:
            if end >= 0:
                yield start, end
            start = left
        end = right
    if end >= 0:
        yield start, min(end, len(text))


# --- by the label before it

# letters and digits in groups: HX-482913, 1EG4-TE5-MK73, 65 170839 J 003, SGH/OP/22/10934
GROUP = r"[A-Za-z]{0,6}\d[A-Za-z0-9]{0,24}"
NUMBER = re.compile(
    rf"(?<![A-Za-z0-9])(?:[A-Za-z]{{1,6}}[-/]){{0,3}}{GROUP}"
    rf"(?:(?: ?[-/.] ?| ){GROUP}|[ -][A-Z](?![A-Za-z])|[-/][A-Z]{{1,4}}(?![A-Za-z])){{0,8}}(?![A-Za-z0-9])"
)
GS1 = re.compile(r"\(\d\d\)")
LEAD = re.compile(r"\b[A-Z]{1,3} $")
TOKEN = re.compile(r"n[°º]|[^\W_]+(?:['’-][^\W_]+)*|[#№:=]")
LABELS = {
    " ".join(TOKEN.findall(label.replace("_", " "))): (kind, strong)
    for strong, table in ((False, WEAK), (True, STRONG), (True, {"telephone": TELEPHONE}))
    for kind, labels in table.items()
    for label in labels.split()
}
UNSPACED = tuple(sorted((label for label in LABELS if ord(label[-1]) > 0x3000), key=len, reverse=True))
SAYS_NUMBER = bag(NUMBER_WORDS)
GLUE = SAYS_NUMBER | bag(FILLERS)
LONGEST = 4  # words of a label
FAR = bag(
    "mrn uhid ssn nhs nino passport medicare medicaid aadhaar aadhar abha kvnr lanr npi dea gmc rpps imei udi cpf dni iban nir nhc rvnr"
)
YEARS = re.compile(r"(?:19|20)\d\d(?:\s?[-/–. ]\s?(?:19|20)?\d\d)?")
UNIT = re.compile(
    r"\s?(?:%|(?:mg|mcg|µg|g|kg|ml|l|mm|cm|mmhg|iu|units?|years?|yrs?|days?|weeks?|months?|hours?|patients|people|cases|"
    r"women|men|children|adults|steps|calories|kcal)\b)", re.IGNORECASE
)  # fmt: skip


def _labelled(text: str, start: int, end: int) -> Iterator[Place]:
    for match in NUMBER.finditer(text, start, end):
        count = sum(c.isdecimal() for c in match[0])
        if (
            count < 4
            or GS1.match(text, match.start() - 4)
            or YEARS.fullmatch(match[0])
            or UNIT.match(text, match.end())
        ):
            continue
        before, begin = around(match)[0], match.start()
        lead = LEAD.search(text, max(0, begin - 4), begin)
        if lead and lead[0].strip().lower() not in LABELS:  # AB 12 34 56 C
            before, begin = before[: len(before) - len(lead[0])], lead.start()
        kind, length = _label(before, count)
        head = match[0].partition("-")[0].lower()
        if not kind and LABELS.get(head, ("", False))[1]:  # MRN-558102
            kind = LABELS[head][0]
        if kind == "telephone":
            if _is_telephone(match[0]):
                yield kind, begin - text.startswith(("+", "("), max(0, begin - 1), begin), match.end()
        elif kind and not (
            TOLL_FREE.fullmatch(match[0]) and (match[0][0] == "1" or before.endswith((" at ", "call ")))
        ):
            yield kind, begin - length, match.end()


def _label(before: str, count: int) -> tuple[str, int]:
    """The kind that a label before a number of so many digits gives it, and how far back the label begins."""
    tokens, says = list(TOKEN.finditer(before)), False
    words = [token[0] for token in tokens]
    while tokens:
        for size in range(min(LONGEST, len(tokens)), 0, -1):
            name = " ".join(words[-size:])
            kind, strong = LABELS.get(name) or LABELS.get(name.partition("-")[0], ("", False))
            if kind and (strong or says or count >= 6):
                if not strong and len(words) > size and LABELS.get(words[-size - 1], ("", False))[1]:
                    kind = LABELS[words[-size - 1]][0]  # the record of a fingerprint
                elif not (strong or says) and (sure := _far(words)):
                    return sure, 0
                return kind, len(before) - tokens[-size].start()
        last = words.pop()
        at = tokens.pop().start()
        if last in GLUE:
            says = says or last in SAYS_NUMBER
        elif ord(last[-1]) > 0x3000:
            return _unspaced(last), len(before) - at
        else:
            break
    return (_far(words) if count >= 6 else ""), 0


def _far(words: list[str]) -> str:
    """The kind that a label gives a number from farther away: "the NPI on the claim, 1646460513"."""
    return next((LABELS[word][0] for word in reversed(words) if word in FAR), "")


def _unspaced(word: str) -> str:
    """The kind that a label at the end of a run of Chinese or Japanese gives the number behind it."""
    for cut in range(4):
        rest = word[: len(word) - cut]
        if label := next((label for label in UNSPACED if rest.endswith(label)), ""):
            return LABELS[label][0]
        if not rest or rest[-1] not in ENDINGS:
            break
    return ""


# --- telephones

# the line of an institution: free of charge or above it, by its first figures and how many there are
TOLL_FREE = re.compile(
    r"\+?1?[ .-]?\(?(?:8(?:00|33|44|55|66|77|88)\)?\D{0,3}|900\)?\D{1,3})\d{3}\D?\d{4}"
    r"|0(?:800|808|120|300|345|84[345]|87[0123]|900|180[0-9]?|80[059]|82[0-9])(?:\D\D?\d{2,8}){1,4}|0(?:800|120)\d{6,7}|(?:1800|1860|400[68])\D\d{3}\D?\d{3,4}|(?:800|90[0-2])(?:\D?\d{3}){2}"
)
DIALS = r"(?:\+|(?<![\d.,])00(?=1|3[0-9]|4[0-9]|5[0-9]|6[0-6]|7|8[1246]|9[0-5]))"
EXTENSION = r"(?: ?(?:x|ext\.?|#) ?\d{1,5})?"
# side by side in the order in which they are tried: abroad, North America, then Europe, Brazil, Japan, China and India
NATIONAL = re.compile(
    rf"(?<![A-Za-z0-9_.:=/\\])(?<![\d,]-)(?P<number>{DIALS}[1-9]\d{{0,2}}(?:[ .()/-]{{0,3}}\d{{1,5}}){{2,6}}"
    r"|\([2-9]\d\d\) ?[2-9]\d{6}|(?:1[ .-]{0,3})?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[ .-]?[2-9]\d\d[ .-]\d{4}"
    r"|\(?0\d{2,4}\)?[ -]\d{3,4}[ -]?\d{3,4}|0\d{4} ?\d{6}|\(0\d{1,5}\) ?\d{3,4}[ -]?\d{2,5}"  # Britain, Japan, Italy
    r"|0[1-9](?:[ .-]\d\d){4}|0[1-9]\d{8}"  # France
    r"|0[1-9]\d{1,4} ?[/-] ?\d{2,9}(?:[ -]\d{1,5}){0,3}|\(?0[1-9]\d{2,4}\)? \d{5,8}|0[1-9]\d{1,4} \d{2,4} \d{2,4} \d{2,4}"  # Germany
    r"|0\d{1,3}[ .-]\d{4}[ -]?\d{3,4}|3\d\d[ .-]\d{3}[ .-]?\d{3,4}"  # Italy
    r"|[679]\d\d[ -]\d{3}[ -]\d{3}|[89]\d[ .-]\d{3}[ .-]\d\d[ .-]\d\d|[679]\d\d(?:[ -]\d\d){3}"  # Spain
    r"|\(\d\d\) ?9? ?\d{4}[ -]\d{4}|\d\d 9? ?\d{4}-\d{4}|9\d{4}-\d{4}"  # Brazil
    r"|0[1-9]\d{0,3}-\d{1,4}-\d{4}"  # Japan
    r"|1[3-9]\d{9}|1[3-9]\d[ -]\d{4}[ -]\d{4}|0\d\d{1,2}-\d{7,8}"  # China
    rf"|0?[6-9]\d{{9}}|[6-9]\d{{4}}[ -]\d{{5}}|0\d{{2,4}}-\d{{6,8}}){EXTENSION}(?![A-Za-z0-9_/]|[-.]\d)"  # India
)


def is_toll_free(number: str) -> bool:
    """Whether a number is an institution's line rather than a person's."""
    return TOLL_FREE.fullmatch(number.strip()) is not None


def _is_telephone(number: str) -> bool:
    """As long as one, no range of years, no round sum, and no line that an institution pays for."""
    plain = re.sub(r"\D", "", number)
    return (
        (9 if plain[0] == "0" else 7) <= len(plain) <= 15
        and not plain.endswith("000")
        and not YEARS.fullmatch(number[-9:])
        and not TOLL_FREE.fullmatch(number)
        and len(set(plain)) > 2
    )


# --- by its check digits, or by a shape that nothing else has

END = r"(?![A-Za-z0-9]|[-.]\d)"
NOT_IN_ONE = r"(?<![A-Za-z0-9])(?<!\d[.,-])"


def _of(
    kind: str, pattern: str, counts: Callable[[str], bool] | None = None
) -> tuple[str, re.Pattern[str], Callable[[str], bool] | None]:
    return kind, re.compile(f"{NOT_IN_ONE}(?:{pattern}){END}"), counts


def _account(country: str, length: int) -> str:
    fours, rest = divmod(length - 4, 4)
    return rf"{country}\d\d(?: ?[A-Z0-9]{{4}}){{{fours}}}" + (rf" ?[A-Z0-9]{{{rest}}}" if rest else "")


INDIAN_STATES = "AP|AR|AS|BR|CG|CH|DL|GA|GJ|HR|HP|JH|JK|KA|KL|LD|MH|ML|MN|MP|MZ|NL|OD|OR|PB|PY|RJ|SK|TN|TR|TS|UK|UP|WB"
SHAPES = (
    _of("record number", "|".join(_account(*item) for item in digits.IBAN.items()), digits.iban),
    _of("record number", r"\d{3}[- ]\d\d[- ]\d{4}", digits.social_security),
    _of("record number", r"[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d\d"),
    _of("record number", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]"),  # Britain's insurance
    _of("record number", r"\d(?:[ -]?\d){12,15}", digits.card),
    _of("record number", r"\d{3} \d{3} \d{4}", digits.nhs),
    _of("record number", r"\d\d ?\d{3} ?\d{3} ?\d{3}", digits.idnr),
    _of("record number", r"[A-Z]\d{9}", digits.kvnr),
    _of("record number", r"\d\d ?[0-3]\d[01]\d{3} ?[A-Z] ?\d{3}"),  # Germany's pension
    _of("record number", r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", digits.nir),
    _of("record number", r"\d{8}[- ]?[A-Z]|\d{1,2}\.\d{3}\.\d{3} ?-? ?[A-Z]|[XYZ][- ]?\d{7}[- ]?[A-Z]", digits.dni),
    _of("record number", r"(?i:[A-Z]{3} ?[A-Z]{3} ?[\dL-NP-V]{2} ?[A-EHLMPRST][\dL-NP-V]{2} ?[A-Z][\dL-NP-V]{3} ?[A-Z])", digits.codice_fiscale),
    _of("record number", r"\d{3}\.\d{3}\.\d{3}[-/ ]\d\d|\d{3} ?\d{3} ?\d{3}[- ]?\d\d", digits.cpf),
    _of("record number", r"\d{3} \d{4} \d{4} \d{4}|\d{15}", digits.cns),
    _of("record number", r"\d{4}[ -]\d{4}[ -]\d{4}", lambda number: digits.aadhaar(number) or digits.my_number(number)),
    _of("record number", r"[1-9]\d{5}(?:18|19|20)\d{9}[\dXx]", digits.resident),
    _of("record number", r"[A-Z]{3}P[A-Z]\d{4}[A-Z]"),  # India's tax
    _of("licence number", r"[ABFGMPRX][A-Z9]\d{7}", digits.dea),
    _of("device", r"\(01\) ?\d{14}(?: ?\(\d\d\) ?[A-Za-z0-9./-]{1,20}){0,5}"),
    _of("vehicle", r"[A-HJ-NPR-Z0-9]{17}", digits.vin),
    _of("vehicle", r"[A-HJ-NP-TV-Z]{2}-\d{3}-[A-HJ-NP-TV-Z]{2}"),  # France
    _of("vehicle", rf"(?:{INDIAN_STATES})[ -]?\d{{1,2}}[ -]?[A-Z]{{1,3}}[ -]?\d{{4}}"),
    _of("vehicle", r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][·• ]?[A-Z0-9]{5,6}"),
    _of("vehicle", r"[一-龠ぁ-ん]{1,4} ?\d{2,3} ?[ぁ-ん] ?\d{1,2}[-・]\d\d"),  # Japan
)  # fmt: skip
