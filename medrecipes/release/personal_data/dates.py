"""Days of a person's life (birth, stay, treatment, death), and ages over 89, which few people share."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medrecipes.release.personal_data.rule import Place, Rule, Rules, Seen, around, either

MONTHS = """
    january february march april may june july august september october november december
    jan feb mar apr jun jul aug sep sept oct nov dec
    januar februar märz mai juni juli oktober dezember jän mrz okt dez
    janvier février fevrier mars avril juin juillet août aout septembre octobre novembre décembre janv févr avr juil déc
    enero febrero marzo abril mayo junio julio agosto septiembre setiembre octubre noviembre diciembre ene abr ago dic
    gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre gen mag giu lug ott
    janeiro fevereiro março maio junho julho setembro outubro novembro dezembro fev
"""
MONTH = either(MONTHS)
YEAR = r"(?:(?:19|20)\d\d|['’]?\d\d)"
# with a day, or it is no day of anybody's; the year may be left out where the month is a word
DATE = re.compile(
    rf"(?<![\w./-])(?:\d{{1,2}} ?(?:st|nd|rd|th|er|[.ºª°])?,? ?-?(?:(?:of|de|di) )?-?(?i:{MONTH})\b\.?(?:,? ?-?(?:(?:of|de|del|di) )?{YEAR}\b)?"
    rf"|(?i:{MONTH})\b\.? ?\d{{1,2}}(?:st|nd|rd|th)?(?:,? {YEAR}|,? ?'\d\d)?\b"
    r"|[0-3]?\d([-/.])[0-3]?\d\1(?:(?:19|20)\d\d|\d\d)|(?:19|20)\d\d([-/.])[01]?\d\2[0-3]?\d|[0-3]?\d [01]\d (?:19|20)\d\d)(?![\w/]|[-.,]\d|%)"
    r"|(?:(?:19|20)\d\d年|(?:明治|大正|昭和|平成|令和)\d{1,2}年)\d{1,2}月\d{1,2}[日号]"
)
DATED_BY_YEAR = re.compile(r"(?:19|20)\d\d|[-/.]\d\d$|['’]\d\d$|[^\W\d]\.?,? \d\d$|[日号]$")
ON = re.compile(r"(?:\bon|\bam|\ble|\bel|\bil|\bem|\bdal|\bdel|\bdu|\bau|\bvom|\bsince|\bdated?|\bthe|:) ?$")
BIRTH = re.compile(
    r"(?:\b(?:d\.? ?o\.? ?b\b|(?:date|day|place and date) of birth|birth ?-?(?:date|day)|b[’']day|born|date of birth|geb\b|geboren|geburtsdatum|geburtstag|"
    r"née? le|né\(e\) le|naissance|ddn\b|nacid[oa]|nacimiento|f\.? ?nac|nat[oa] (?:il|a)|nascit[ao]|nascid[oa]|nascimento|d\.?n\.?\b|nasceu|nació)"
    r"|生年月日|生まれ|誕生日|出生|生日|出生于|जन्म)"
)
# what is done to a patient, or what a patient does, on a day
STAY = re.compile(
    r"\b(?:admi(?:t|ssion)|discharg|hospitali[sz]|inpatient|seen (?:on|in|by|at)|was seen|visit|consult|appointment|follow(?:ed|ing)?[- ]?up|f/u|surger|operat|"
    r"underwent|procedure|implant|placed on|insert|transfer|deliver|transplant|biops|diagnos|scan|x-?ray|\bmri\b|\bct\b|ultrasound|chemo|radiation|infusion|"
    r"vaccin|inject|collected|specimen|date of (?:service|visit|admission|discharge|death|procedure|surgery|injury|exam|operation)|\bdos\b|\blmp\b|last period|"
    r"last menstrual|injur|accident|fell on|fall on|died|dead|death|deceased|passed away|expired on|\bdod\b|test(?:ed)? (?:on|positive|done|dated)|report(?:ed)? dated|"
    r"dated|started on|stopped on|prescribed on|stent|presented (?:on|to)|came (?:in )?on|arriv|er on|intubat|extubat|\bicu\b|dialys|stay|ward\b|clinic\b|hospital|"
    r"aufnahme|aufgenommen|aufenthalt|entlass|operiert|eingeliefert|vorgestellt|verstorben|gestorben|untersuch|behandel|termin\b|stationär|"
    r"hospitalis|admise? |sorti|entré|opéré|consultation|décéd|intervention|séjour|rendez-vous|vue? en|"
    r"ingres|ingreso|alta\b|intervenid|operad|falleci|consulta|atendid|cirugía|hospitaliz|"
    r"ricover|dimess|operat|decedut|visita|intervento|dimission|"
    r"internad|internação|alta em|atendimento|faleceu|óbito|cirurgia|internou)"
    r"|入院|退院|手術|受診|来院|死亡|亡くな|診察|手术|出院|住院|就诊|入住|去世|भर्ती"
)
# days of papers and authorities
PUBLIC = re.compile(
    r"\b(?:accessed|updated|published|retrieved|(?:last|page|medically) reviewed|approv|effective|as of|guideline|fda|amendment|law|act|version|utc|"
    r"copyright|edition|press|journal|world|national)\b|©"
)


def _day(match: re.Match[str]) -> Iterator[Place]:
    before, after = around(match, 64)
    if not DATED_BY_YEAR.search(match[0]) and not ON.search(before):
        return  # `May 12 patients`, `1 out of 5`: no day
    born = [found for found in BIRTH.finditer(before) if len(before) - found.end() <= 24]
    if born:
        yield "date of birth", match.start() - (len(before) - born[-1].start()), match.end()
    elif BIRTH.match(after.lstrip()[:12]):
        yield "date of birth", match.start(), match.end()
    elif (STAY.search(before) or STAY.search(after)) and not PUBLIC.search(before):
        yield "date of stay", match.start(), match.end()


# --- ages

OVER = r"(?:9\d|1[0-2]\d)"
SPELLED = (
    r"(?:ninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|(?:one|a) hundred(?: and)?(?:[- ](?:one|two|three|four|five|six|seven|eight|nine|ten))?|"
    r"\w{3,12}undneunzig|neunzig|quatre-vingt-(?:dix(?:-\w+)?|onze|douze|treize|quatorze|quinze|seize)|noventa(?: [ye] \w+)?|novant\w{1,10})"
)
UNIT = (
    r"(?:[- ]?(?:years?|yrs?|y)[-. ]{0,2}(?:old|o\b|of age)(?!s)|[- ]?y[./ ]?o\b|[- ]?yr[./ ]?old|[- ]jährig\w{0,3}|(?: Jahre?n?)(?: alt)?\b|"
    r" (?:ans|años|anni|anos)\b|(?<=\d) ?[歳才岁]| ?(?:वर्ष|साल))"
)
NUMERIC = re.compile(rf"(?<![A-Za-z0-9.,/-]){OVER}{UNIT}")
IN_WORDS = re.compile(rf"(?i:(?<![\w-]){SPELLED}){UNIT}")
OF_HIM = re.compile(
    r"(?i:\b(?:s?he|who|mother|father|gran|grand(?:mother|father|ma|pa)|mom|mum|dad)(?:,? who)?(?: is| was|['’]s)(?: now| nearly| about| already)? )9\d(?=[,.;!?)]? ?(?:$|and\b|but\b|years\b|now\b|,|with\b|who\b|still\b|\(|[.;!?)]))(?! ?%|\.\d)"
    r"|(?i:\b(?:s?he|who)(?: is| was|['’]s)(?: now)? )1[0-2]\d(?=[,.;!?)]? ?(?:$|and\b|but\b|years\b|still\b|now\b))(?! ?%|\.\d)"
)
AGED = re.compile(
    rf"(?i:\b(?:aged?|turn(?:ed|s|ing)?|age is|edad|idade|età|âge|alter)[ :=]{{1,3}}(?:of |is |de |di |about |around |approx\.? |almost |nearly )?){OVER}(?![\w%]|[-.,/]\d| ?(?:mg|kg|%|to|and|or|-|–))"
)
GENERAL_BEFORE = re.compile(
    r"\b(?:over|above|older than|more than|up to|until|to|between|beyond|past|exceed\w*|under|below|younger than|less than|by|before|at|after|from|through|and|or|"
    r"people|adults|women|men|those|patients|individuals|persons|population|adults? who are|reach(?:ed|es)?|about|around|for|"
    r"über|älter als|ab|bis|unter|mehr als|plus de|jusqu['’]à|moins de|entre|más de|mayores de|menos de|hasta|oltre|fino a|più di|mais de|acima de|até|maiores de|"
    r"in|hace|il y a|vor|nach|pendant|durante|nos|los últimos|les|der letzten)"
    r"(?: the)?(?: age)?(?: of)?(?: the)?[ ,]*$|[<>≥≤=–-] ?$"
)
GENERAL_AFTER = re.compile(
    r"^[ ,]*(?:\(?(?:or|and|&) (?:older|over|above|up|younger|beyond)|or more|old or|older|ago|later|earlier|of experience|survival|以上|超|未満|以下|"
    r"o más|ou plus|et plus|oder älter|und älter|e oltre|ou mais|ago|fa\b|atrás|\+)"
)
# with whom an age is somebody's, behind `at` and `about` too
ONE = re.compile(
    r"\b(?:he|she|my|his|her|our|i|patient|mother|father|grand\w+|man|woman|lady|gentleman|male|female|uncle|aunt|died|passed away|er|sie|mein\w*|oma|opa|il|elle|mon|ma|"
    r"él|ella|mi|su|lui|lei|mio|mia|nonn[oa]|ele|ela|meu|minha|av[óô])\b"
)
NEARLY = re.compile(r"\b(?:at|about|around|to|mit|à|a|aos|con)(?: the)?(?: age)?(?: of)? ?$")


def _is_of_one(match: re.Match[str]) -> bool:
    """Whether an age is somebody's, and not a bound or a group's."""
    before, after = around(match, 40)
    if GENERAL_AFTER.search(after):
        return False
    return not GENERAL_BEFORE.search(before) or bool(
        NEARLY.search(before) and ONE.search(before) and "up to" not in before
    )


# what is left of a date whose digits are all 0
SHAPES = (*(f"0{sign}{zeros}{sign}0" for sign in "/-. " for zeros in ("0", "00")), "年", "成", "和")
DAYS = Rules((Rule("", MONTHS, DATE, signs=SHAPES, left=24, right=40),))
AGES = Rules(
    (
        Rule("age over 89", "00 000", NUMERIC, _is_of_one, ("歳", "才", "岁"), left=5, right=24),
        Rule(
            "age over 89",
            "ninety hundred neunzig quatre noventa",
            IN_WORDS,
            _is_of_one,
            ("undneunzig", "novant"),
            left=16,
            right=40,
        ),
        Rule(
            "age over 89",
            "age aged turn turned turning turns edad idade età âge alter",
            AGED,
            _is_of_one,
            left=4,
            right=24,
        ),
        Rule(
            "age over 89",
            "he she who mother father grandmother grandfather grandma grandpa gran mom mum dad",
            OF_HIM,
            left=0,
            right=40,
        ),
    )
)


def find(seen: Seen) -> Iterator[Place]:
    """All such days and ages of a text."""
    for _, match in DAYS.find(seen):
        yield from _day(match)
    yield from AGES.places(seen)
