"""Number plates behind a word for them, in the shapes of ten countries; what is plain without a word stands in numbers.py."""

from __future__ import annotations

import re

from medrecipes.release.personal_data.rule import Rule, Rules

PLATE = (
    r"[A-Z]{2}\d{2} ?[A-Z]{3}|[A-Z]\d{1,3} ?[A-Z]{3}"  # Britain
    r"|[A-ZÄÖÜ]{1,3}[- ][A-Z]{1,2} ?\d{1,4}[EH]?"  # Germany
    r"|[A-Z]{2}[- ]?\d{3}[- ]?[A-Z]{2}|\d{1,4} ?[A-Z]{2,3} ?\d{2}"  # France, Italy
    r"|\d{4}[- ]?[BCDFGHJKLMNPRSTVWXYZ]{3}|[A-Z]{1,2}[- ]?\d{4}[- ]?[A-Z]{2}"  # Spain
    r"|[A-Z]{3}[- ]?\d[A-Z0-9]\d{2}"  # Brazil
    r"|[A-Z]{2}[- ]?\d{1,2}[- ]?[A-Z]{0,3}[- ]?\d{4}"  # India
    r"|\d[A-Z]{3}\d{3}|[A-Z]{3}[- ]?\d{3,4}|\d{3}[- ]?[A-Z]{3}|[A-Z0-9]{2,4}[-· ][A-Z0-9]{2,4}"  # the American states
    r"|[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][·• ]?[A-Z0-9]{5,6}"
    r"|[一-龠]{1,4} ?\d{2,3} ?[ぁ-ん] ?\d{1,2}[-・]\d\d"
)
NAMED = (
    r"licen[cs]e plates?|licen[cs]e tag|number plates?|plate|plates|tag|registration|registered|reg|vehicle|car|van|truck|bike|motor ?(?:bike|cycle)|scooter|auto|taxi|"
    r"(?:amtliches )?kennzeichen|nummernschild|plaque(?: d['’]immatriculation)?|immatriculée?|immatriculation|matrícula|matricula|placas?|targata|targato|targa"
)
GLUE = r"(?: (?:no|nos|num|number|is|was|nr|nº|n°|id|read|reads|reading|mark|plate|with|con|avec|mit|de|do|della?|è|ist|es|é|est)\b\.?){0,3}[ :#.(-]{1,3}"


def _is_plate(match: re.Match[str]) -> bool:
    plate = match["plate"]
    return sum(c.isdecimal() for c in plate) >= 2 and any(c.isalpha() for c in plate)


RULES = Rules(
    (
        Rule(
            "vehicle",
            "license licence plate plates tag registration registered reg vehicle car van truck bike motorbike motorcycle scooter auto taxi kennzeichen nummernschild plaque "
            "immatriculation immatriculé immatriculée matrícula matricula placa placas targa targato targata",
            re.compile(rf"\b(?i:{NAMED})(?i:{GLUE})(?P<plate>{PLATE})(?![A-Za-z0-9]|-\d)"),
            _is_plate,
            left=2,
            right=90,
        ),
        Rule(
            "vehicle",
            "",
            re.compile(rf"(?:(?<!マイ)ナンバー|車両番号|车牌号?|车牌号码)(?:は|が|是|为|[:：])? ?(?P<plate>{PLATE})"),
            _is_plate,
            signs=("ナンバー", "車両", "车牌"),
            left=2,
        ),
    )
)
