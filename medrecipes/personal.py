"""Personal data in text: what points at one person, told apart from what points at an institution.

An institution's own lines stay: toll-free numbers, and mailboxes that bear a task rather than a name (`info@…`). A number
or an address that nothing marks as an institution's counts as a person's, even where a reader would know better.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, e.g. `Finding("e-mail", "jane.doe@mail.example", 17)`."""

    kind: str
    text: str
    start: int

    def __str__(self) -> str:
        return f"{self.kind} {masked(self.text)}"


def masked(text: str) -> str:
    """Enough of a text to find it again, and no more: a report of personal data must not spread it."""
    text = " ".join(text.split())
    return text[:2] + re.sub(r"\w", "*", text[2:24]) + ("…" if len(text) > 24 else "")


# --- e-mail: any mailbox but those of a task; addresses that were masked before hold a word for it

TASKS = (
    "info|contact|help|support|service|office|admin|staff|webmaster|webmail|postmaster|mail|enquir|inquir|question|"
    "press|media|privacy|reply|subscri|register|registry|feedback|hotline|library|public|center|centre|outreach|"
    "masked|redacted|removed|hidden"
)
MAILBOX = re.compile(TASKS, re.IGNORECASE)


def _is_mailbox_of_a_person(match: re.Match[str]) -> bool:
    local, _, domain = match[0].partition("@")
    if not domain:  # written out: nobody hides the mailbox of an office
        return True
    # prpl@mail.cc.nih.gov, 2020@nei.nih.gov: a government's mailbox without a name in it
    plain = domain.lower().endswith((".gov", ".mil")) and not re.search(r"[._-]", local)
    return not (MAILBOX.search(local) or plain)


# --- telephone

TOLL_FREE = ("800", "833", "844", "855", "866", "877", "888", "900")


def _is_phone_of_a_person(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match["number"])
    national = digits[1:] if len(digits) == 11 and digits[0] == "1" else digits
    return 7 <= len(digits) <= 15 and not (len(national) == 10 and national.startswith(TOLL_FREE))


# --- names

TITLE = r"(?:(?:Dr|Prof|Mr|Mrs|Ms|Miss|Sr|Sister|Nurse)\b\.? ?)"
NAME = r"[A-Z](?:[a-zà-öø-ÿ]|['’-](?=[A-Za-z])|(?<=['’-])[A-Z])+"
INITIAL = r"(?:[A-Z]\. ?)"
FULL = rf"(?P<name>{TITLE}?{INITIAL}{{0,3}}{NAME}(?: {INITIAL}?{NAME}){{0,3}})"
# what stands where a name would, and is none; the artefact of HealthCareMagic among them
NOT_NAMES = """
again all also and any anyone anybody are ask back be best bless but bye care chat chatdoctor cheers dear do doc
doctor doctors don everybody everyone everything for forum friend friends from get god good great greetings guys have
health hello help hi hope hoping how i if in is it jay just kind kindly ladies let looking ma maam madam madame may me
mom much my no now of once our patient patients please possible pray questioner reader regard regards respected
sincerely sir sirs so take team thank thanking thanks that the there these this to user very waiting warm warmly we
welcome what when will wish wishes wishing with would yes you your yours xxx xxxx xxxxx
"""
NO_NAME = frozenset(NOT_NAMES.split())


def _is_name(match: re.Match[str]) -> bool:
    words: list[str] = re.findall(r"[^\W\d_]+", match["name"].lower())
    words = [word for word in words if word not in ("dr", "prof", "mr", "mrs", "ms", "miss") and len(word) > 1]
    return bool(words) and words[0] not in NO_NAME


# --- numbers that are somebody's


def _has_digits(match: re.Match[str]) -> bool:
    return len(re.findall(r"\d", match["number"])) >= 5


def _is_social_security(match: re.Match[str]) -> bool:
    area, group, serial = re.split(r"[- ]", match[0])
    return bool(area not in ("000", "666") and group != "00" and serial != "0000")


def _is_card(match: re.Match[str]) -> bool:
    """Luhn's sum: one run of digits in ten passes by chance, so a payment card must look like one too."""
    digits = [int(d) for d in re.sub(r"\D", "", match[0])]
    if not 13 <= len(digits) <= 16 or digits[0] not in (3, 4, 5, 6):
        return False
    doubled = [d if i % 2 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(digits, len(digits) % 2)]
    return sum(doubled) % 10 == 0


def _is_address_of_a_machine(match: re.Match[str]) -> bool:
    return all(part.isdigit() and int(part) < 256 for part in match["number"].split("."))


MONTHS = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec)[a-z]*\.?"
DATE = (
    rf"(?:\d{{1,4}}[-/. ]\d{{1,2}}[-/. ]\d{{1,4}}|\d{{1,2}}(?:st|nd|rd|th)?(?: of)?[ -]{MONTHS},?[ -]\d{{2,4}}"
    rf"|{MONTHS} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})"
)
RECORD = (
    r"MRN|UHID|NHI|medical record|health record|hospital record|patient record|record|chart|patient|hospital|case file|"
    r"file|admission|insurance|policy|member|subscriber|beneficiary|medicare|medicaid|health plan|health card|NHS|account|"
    r"passport|driver'?s licen[cs]e|driving licen[cs]e|licen[cs]e plate|aadhaar|aadhar|national insurance|national id|"
    r"social security|SSN|tax id"
)
STREET = (
    r"Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Court|Ct|Way|Place|Pl|Parkway|Pkwy|Terrace|Crescent|"
    r"Close|Square|Highway|Hwy|Circle|Trail|Gardens|Grove|Mews"
)
STATE = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
)
CLOSING = (
    r"(?:(?:best|kind|warm|warmest|many|with|sincere)[ ]+)*(?:regards|wishes|thanks)|sincerely(?: yours)?|yours (?:truly|"
    r"sincerely|faithfully)|respectfully|thank you(?: so much| very much)?|cheers|warmly|love|take care|signed(?: by)?"
)

Check = Callable[[re.Match[str]], bool]
DIGITS = "000"  # stands for any three digits side by side
THREE = re.compile(r"\d{3}")
# what the words of RECORD begin with
NUMBERED = (
    "mrn", "uhid", "nhi", "record", "chart", "patient", "hospital", "file", "admission", "insurance", "policy", "member",
    "subscriber", "beneficiary", "medic", "health", "nhs", "account", "passport", "licen", "aadha", "national", "social",
    "ssn", "tax id",
)  # fmt: skip
# kind, what such a text holds one of (in lower case; a quick look that spares the pattern), the pattern, what makes a
# match count
RULES: tuple[tuple[str, tuple[str, ...], re.Pattern[str], Check | None], ...] = tuple(
    (kind, words, re.compile(pattern), check)
    for kind, words, pattern, check in (
        ("e-mail", ("@",), r"(?<![\w.+-])[\w.+%-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b", _is_mailbox_of_a_person),
        ("e-mail", (" at ", "[at", "(at", "{at", "( at", "[ at"),
         r"(?i)\b[\w.+-]+ ?(?:[\[({] ?at ?[\])}]| at ) ?[\w-]+(?: ?[\[({] ?dot ?[\])}] ?| dot |\.)(?:com|org|net|edu|in|uk|co)\b",
         _is_mailbox_of_a_person),
        ("record number", NUMBERED,
         rf"(?i)\b(?:{RECORD})(?:'s)?(?: (?:record|card|policy|file|member|reg(?:istration)?))?[ .]*(?:id|no|nr|num|number|#)?[ .]*(?:is|was)?[ :#.=-]{{1,4}}"
         r"(?P<number>(?=[A-Z0-9/ -]*\d)[A-Z]{0,4}[/-]?\d[A-Z0-9]*(?:[/ -][A-Z0-9]*\d[A-Z0-9]*)*)\b",
         _has_digits),
        # North America's ten digits, in groups
        ("telephone", (DIGITS,),
         r"(?<![\w.-])(?P<number>(?:\+?1[ .-]{0,3})?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[ .-]?[2-9]\d{2}[ .-]\d{4})(?![\w-])",
         _is_phone_of_a_person),
        ("telephone", ("+",), r"(?<!\w)(?P<number>\+\d{1,3}(?:[ .()-]{0,2}\d{1,5}){2,6})(?!\w)", _is_phone_of_a_person),
        # ten digits on end that could be a mobile's
        ("telephone", (DIGITS,), r"(?<![\w./:=-])(?P<number>0?[6-9]\d{9})(?![\w/-])", _is_phone_of_a_person),
        ("telephone", ("phone", "mobile", "cell", "tel", "call", "whats", "fax", "contact", "text", "ring", "reach"),
         r"(?i)\b(?:(?:tele)?phone|mobile|cell|tel|call(?: me)?|whats ?app|fax|contact|text(?: me)?|ring(?: me)?|reach me)\b"
         r"(?: (?:number|no|num|nr))?(?: (?:is|at|on|us|me|him|her))*[ .:#]{0,3}(?P<number>\(?\d[\d ().-]{5,18}\d)(?![\w-])",
         _is_phone_of_a_person),
        ("telephone", (DIGITS,), r"(?<![\w./-])(?P<number>0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4})(?![\w-])", _is_phone_of_a_person),
        ("address", ("flat", "apartment", "apt", "house", "suite", "unit"),
         r"\b(?:[Ff]lat|[Aa]partment|[Aa]pt\.?|[Hh]ouse|[Ss]uite|[Uu]nit)(?: (?:[Nn]o|[Nn]umber)\.?)? #?\d+[A-Za-z]?,(?: [\w.'’-]+){1,6}", None),
        ("address", ("",),
         rf"\b\d{{1,5}}[A-Za-z]?,? (?:(?:North|South|East|West|[NSEW]\.?) )?(?:(?:[A-Z][a-zà-ÿ'’]+|\d+(?:st|nd|rd|th)) ){{1,3}}(?:{STREET})\b",
         None),
        ("address", ("box",), r"(?i)\bP\.? ?O\.? ?Box \d+", None),
        ("address", (DIGITS,), rf"\b[A-Z][a-z]+(?: [A-Z][a-z]+)*,? (?:{STATE})\.? \d{{5}}(?:-\d{{4}})?\b", None),
        ("address", ("",), r"\b[A-Z]{1,2}\d{1,2}[A-Z]? \d[A-Z]{2}\b", None),
        ("address", ("code", "zip"), r"(?i)\b(?:pin ?code|post ?code|postal code|zip(?: code)?)(?: is)?[ :]{1,3}[A-Z0-9]*\d[A-Z0-9 -]{3,8}\b", None),
        ("address", ("str", "weg", "platz", "gasse", "allee"), r"\b[A-ZÄÖÜ][a-zäöüß-]+(?:straße|strasse|str\.|weg|platz|gasse|allee) \d+[a-z]?\b", None),
        ("address", ("live at", "reside at", "address"),
         r"(?i)\b(?:(?:I|we) (?:live|reside) at|(?:my|home|residential|postal|mailing|his|her) address(?: is)?[ :]{1,3})[ :]?\d+[^\n.;]{5,60}", None),
        ("record number", ("",), r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b", None),
        ("record number", (DIGITS,), r"(?<![\w-])\d{3}[- ]\d{2}[- ]\d{4}(?![\w-])", _is_social_security),
        ("record number", (DIGITS,), r"(?<![\w.-])\d(?:[ -]?\d){12,15}(?![\w-])", _is_card),
        ("date of birth", ("birth", "dob", "d.o.b", "born", "b'day"),
         rf"(?i)\b(?:D\.?O\.?B\.?|(?:date of birth|birth ?date|birth ?day|born|b'day))(?: (?:is|was|on|in|the))*[ :,-]{{1,4}}(?:on )?{DATE}", None),
        ("name", ("regards", "wishes", "thank", "sincerely", "yours", "respectful", "cheers", "warmly", "love", "take care", "signed"),
         rf"(?:^|(?<=[\s.,!?)]))(?i:{CLOSING})[\s,.!:–—~-]*\n?[\s–—-]*{FULL}(?:,? (?:MD|M\.D\.|MBBS|RN|PhD|DO)\b\.?)?\s*(?=[.,!;]?\s*(?:$|\n|[A-Z(]))",
         _is_name),
        ("name", ("- ", "–", "—", "~", "-"), rf"(?:\n|[.!?] ) ?[–—~-]{{1,2}} ?{FULL}(?:,? (?:MD|RN|PhD))?\s*$", _is_name),
        ("name", ("name", "myself", "patient:", "patient :", "this is ", "i am ", "i'm "),
         rf"\b(?:(?i:my|his|her|patient'?s?|the patient'?s?|father'?s?|mother'?s?|full) (?i:full )?(?i:name)(?i: is|:| -)|(?i:patient|full)? ?Name ?:|(?i:patient ?:)|"
         rf"(?i:myself)|(?i:this is) (?=Dr|Mr|Ms)|(?i:I am|I'm) (?=Dr\b|Mr\b|Mrs\b|Ms\b|[A-Z][a-z]+ [A-Z][a-z]+,? (?i:aged?|a?\s?\d\d|from)))[ ,]*{FULL}",
         _is_name),
        ("name", ("dear ", "hi ", "hello ", "hey "), rf"(?:^|(?<=[\s.!?]))(?:Dear|Hello|Hi|Hey|DEAR|HELLO|HI) {FULL}(?=\s*[,.!\n])", _is_name),
        ("user link", (".com/", ".me/"),
         r"(?i)\b(?:facebook|fb|twitter|x|instagram|linkedin|tiktok|snapchat|pinterest|myspace|flickr|tumblr|vk|t|wa)\.(?:com|me)/"
         r"(?:in/|pub/|users?/|profile(?:\.php\?id=|/)|add/|people/|@)?(?!(?:pages?|groups?|hashtag|share|watch|events?|NIH|CDC|FDA|company|sharer|intent)\b)[\w.@-]{3,}", None),
        # a name alone; with another behind it, it is a project
        ("user link", ("github.com/",), r"(?i)\bgithub\.com/[\w-]+(?![\w/-])", None),
        ("user link", ("/~",), r"(?i)https?://[\w.-]+/~[\w.-]+", None),
        ("user link", ("/user", "/profile", "/member"), r"(?i)https?://[\w.-]+/(?:users?|profiles?|members?)/[\w.-]*[\w]", None),
        ("user link", ("twitter", "insta", "telegram", "tiktok", "snapchat", "skype", "follow me", "message me"),
         r"(?i)\b(?:twitter|instagram|insta|telegram|tiktok|snapchat|skype|follow me(?: on \w+)?|message me(?: on \w+)?)(?: (?:id|handle|name|user(?:name)?|account))?(?: (?:is|at|as|on|under))*[ :]{1,3}@?(?=[\w.]*[\d_.@]|(?<=@))[\w.]{3,}", None),
        ("machine address", ("",), r"(?<![\w.])(?P<number>\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?![\w.]*\d)", _is_address_of_a_machine),
    )
)  # fmt: skip


def find(text: str) -> Iterator[Finding]:
    """All that looks like personal data, kind by kind; a place that two rules find is told once."""
    told: set[int] = set()
    lower, digits = text.lower(), THREE.search(text) is not None
    for kind, words, pattern, counts in RULES:
        if not (digits if words == (DIGITS,) else any(word in lower for word in words)):
            continue
        for match in pattern.finditer(text):
            place = range(match.start(), match.end())
            if (counts is None or counts(match)) and told.isdisjoint(place):
                told.update(place)
                yield Finding(kind, match[0].strip(), match.start())
