"""Names of people: behind a title, a label, a greeting or a closing, behind `my son`, or a known given name with another.

Whoever a disease is named after, or who found something out, is no patient and no doctor of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medrecipes.release.personal_data import scripts, titles
from medrecipes.release.personal_data.given import GIVEN, ROMANISED, SURNAMES, WORDS_TOO
from medrecipes.release.personal_data.notnames import DISEASE, INSTITUTION, NO_NAME
from medrecipes.release.personal_data.person import (
    CAPITALS,
    FULL,
    INITIAL,
    LOWERCASE,
    PARTICLE,
    SHOUTED,
    WORD,
    cued,
    is_history,
    known,
    name_words,
    plausible,
)
from medrecipes.release.personal_data.rule import TOKEN, Place, Rule, Rules, Seen, around, either

# --- behind a label, or as somebody says

LABELS = """
    patient_name patient's_name name_of_patient name_of_the_patient pt_name pt patient full_name first_name last_name surname family_name given_name maiden_name name names
    attending attending_physician physician surgeon consultant provider doctor nurse referred_by referring_physician seen_by reviewed_by dictated_by signed_by signed
    electronically_signed_by witness interpreter guardian next_of_kin emergency_contact kin contact_person spouse mother father carer caregiver nok relative husband wife
    s/o d/o w/o c/o attn attention informant cc
    nachname vorname patientin name_des_patienten patientenname name_der_patientin ansprechpartner hausarzt angehörige überweiser unterzeichnet
    nom prénom nom_du_patient nom_de_la_patiente nom_et_prénom nom_de_naissance médecin_traitant personne_à_prévenir
    nombre apellidos apellido nombre_y_apellidos paciente nombre_del_paciente médico contacto familiar
    cognome paziente nome_e_cognome medico_curante
    nome nome_do_paciente nome_completo nome_da_mãe responsável acompanhante médico_responsável
"""
LABEL = either(LABELS)
LABEL_WORDS = " ".join(TOKEN.findall(label)[0] for label in LABELS.split())
LABELLED = re.compile(
    rf"(?<![\w-])(?i:{LABEL})[ \t]?(?:[:=]|[ ]-)[ \t]{{0,3}}(?P<title>(?:Dr|Prof|Mr|Mrs|Ms|Herr|Frau|M|Mme|Sr|Sra)\.? )?(?P<name>{FULL}(?:, (?:{WORD}|[A-Z]\.))?|{SHOUTED}(?: {WORD}){{0,2}})(?![\w])"
)
# behind these one word is enough; behind `Patient:` and `Doctor:` may stand what they say
OF_ONE = re.compile(
    r".{3,12}name|attending|surgeon|consultant|referr|seen by|reviewed by|dictated by|signed|electronically|next of kin|emergency contact|interpreter|guardian|nachname|vorname|hausarzt|prénom|apellido|cognome|médico|medico",
    re.IGNORECASE,
)
NOT_OF_PEOPLE = re.compile(
    r"\b(?:brand|generic|drug|trade|common|scientific|medical|chemical|other|gene|alternative|product|test|organi[sz]ation|hospital|disease|condition|file|user|domain|nick|pet|dog|cat)\W*$"
)
# so sure that letters of either case may follow
SAYS = re.compile(
    r"(?<!\w)(?i:my (?:full |first |last |\w{3,10}(?:['’]s|s['’]) )?name(?: is|['’]s|:| -)|(?:his|her|their|patient['’]?s|child['’]?s|the patient['’]?s|father['’]?s|mother['’]?s|husband['’]?s|wife['’]?s|son['’]?s|daughter['’]?s|baby['’]?s) (?:full )?name(?: is|['’]s|:| was)|"
    r"(?:i am|i['’]m) called|call me(?! (?:at|on|back|when|if|for|to|as|in|a|the)\b)|i go by(?: the name)?(?: of)?|myself|"
    r"(?:mein|sein|ihr) name ist|ich hei(?:ß|ss)e|je m['’]appelle|je suis (?=[A-Z]\w+ [A-Z])|mon nom est|il s['’]appelle|elle s['’]appelle|me llamo|mi nombre es|se llama|mi chiamo|si chiama|il mio nome (?:è|e['’])|"
    r"me chamo|meu nome (?:é|e)|se chama|mera naam|mera nam|mer[oa] n[ao]+m)[ ,:]{1,2}"
    rf"(?:(?i:is|ist|es|è|é) )?(?P<name>{FULL}|{SHOUTED}|{LOWERCASE})"
)
I_AM = re.compile(
    rf"(?:\b(?i:I am|I['’]m|this is|ich bin|soy|sono|sou|here is|it['’]s)) (?P<name>(?:(?:Dr|Mr|Mrs|Ms)\.? )?{FULL})(?P<age>,? (?i:aged?|a?\s?\d\d|from|and I|years))?"
)
NAMED = re.compile(
    rf"\b(?:named|called|by the name of|namens|nommée?|appelée?|llamad[oa]|chamad[oa]|di nome) (?P<name>{FULL})"
)
RELATIVES = """son daughter wife husband mother father mom mum dad sister brother friend baby child partner fiancé fiancée girlfriend boyfriend aunt uncle cousin niece
    nephew neighbour neighbor grandmother grandfather grandson granddaughter grandma grandpa boss colleague therapist doctor dentist nurse carer roommate
    sohn tochter frau mann mutter vater bruder schwester freund freundin fils fille mari femme mère père frère sœur ami
    hijo hija esposo esposa marido mujer madre padre hermano hermana abuelo abuela figlio figlia marito moglie fratello sorella filho filha mãe pai irmão irmã"""
RELATION = re.compile(
    r"\b(?i:(?:my|his|her|our|their|the patient['’]s) (?:\w{3,10} )?(?:son|daughter|wife|husband|mother|father|mom|mum|dad|sister|brother|friend|baby|child|partner|fiancée?|girlfriend|boyfriend|aunt|uncle|cousin|niece|nephew|neighbou?r|grand(?:mother|father|son|daughter|ma|pa)|boss|colleague|therapist|doctor|dentist|nurse|carer|roommate)|"
    r"mein(?:e[rmn]?)? (?:sohn|tochter|frau|mann|mutter|vater|bruder|schwester|freund(?:in)?)|(?:mon|ma) (?:fils|fille|mari|femme|mère|père|frère|sœur|ami)|"
    r"mi (?:hij[oa]|espos[oa]|marido|mujer|madre|padre|herman[oa]|abuel[oa])|(?:mio|mia) (?:figli[oa]|marito|moglie|madre|padre|fratello|sorella)|"
    r"(?:meu|minha) (?:filh[oa]|marido|esposa|mãe|pai|irmão|irmã))"
    rf",? (?P<name>{WORD}(?: {WORD})?)(?![\w'’-])"
)
PATIENT = re.compile(
    rf"\b(?:(?:[Pp]atient(?:e|in)?|[Pp]aciente|[Pp]aziente|PATIENT|[Cc]lient|[Rr]esident|[Nn]eighbour|[Pp]t)) (?P<name>{FULL}|{SHOUTED})(?![\w-])"
)
DONE_BY = "seen examined reviewed dictated signed referred operated treated assessed admitted written typed prescribed performed reported evaluated accompanied delivered brought attended"
BY = re.compile(
    rf"\b(?i:(?:{either(DONE_BY)})(?: on| in)? by|"
    r"under the care of|care of|spoke (?:to|with)|discussed with|met with|regarding|ask for|attended by|operiert von|behandelt von|vu par|opéré par|atendido por|visitato da|atendida por)"
    rf" (?P<name>{FULL}|{SHOUTED})(?P<degree>,? (?:MD|M\.D\.|MBBS|RN|PhD|DO|NP|PA|FRCS|MRCP)\b)?"
)
DEGREE = re.compile(
    rf"(?<![\w-])(?P<name>{FULL}),? (?:MD|M\.D\.|MBBS|M\.B\.B\.S|RN|R\.N\.|DO|D\.O\.|NP|PA-C|FRCS|MRCP|FRCP|DDS|LCSW|CRNA|FACP|FACS|MRCGP)(?![\w])"
)
# --- greetings and closings

GREETED = re.compile(
    rf"(?:^|(?<=[\s.!?,]))(?:Dear|Hello|Hi|Hey|DEAR|HELLO|HI|Lieber?|Hallo|Cher|Chère|Salut|Querid[oa]|Estimad[oa]|Hola|Gentile|Car[oa]|Ciao|Prezad[oa]|Oi|Olá|Namaste|Good (?:morning|evening|afternoon)),? (?P<name>{FULL})(?=\s*[,.!:\n]|\s*$| (?:[–—-]|your|you|the|I|thanks|thank)\b)",
    re.MULTILINE,
)
CLOSING = (
    r"(?:(?:best|kind|kindest|warm|warmest|many|with|sincere|with best|with kind)[ ]+){0,3}(?:regards|wishes|thanks)|sincerely(?: yours)?|yours (?:truly|"
    r"sincerely|faithfully)|respectfully|thank you(?: so much| very much| in advance)?|thanks(?: a lot| so much| in advance| again)?(?: for your (?:time|help|advice|reply))?|"
    r"warmly|take care|signed(?: by)?|all the best|"
    r"mit freundlichen grü(?:ß|ss)en|freundliche grü(?:ß|ss)e|viele grü(?:ß|ss)e|liebe grü(?:ß|ss)e|beste grü(?:ß|ss)e|herzliche grü(?:ß|ss)e|"
    r"cordialement|bien cordialement|bien à vous|amicalement|merci(?: d['’]avance| beaucoup)?|salutations(?: distinguées)?|"
    r"atentamente|un saludo|saludos(?: cordiales)?|muchas gracias|gracias|un abrazo|cordiali saluti|distinti saluti|saluti|grazie(?: mille)?|"
    r"atenciosamente|abraços|abraço|obrigad[oa]|cumprimentos|dhanyavaad|dhanyawad"
)
SHORT_CLOSING = "best|love|cheers|mfg|lg|vg|att|grat[oa]|bises|besos|baci|xx"
CLOSED = re.compile(
    rf"(?:^|(?<=[\s.,!?)]))(?i:(?:{CLOSING})[\s,.!:–—~-]{{1,5}}|(?:{SHORT_CLOSING})[ .!]?(?:,|\n)\s{{0,2}})[–—-]{{0,2}} ?(?P<name>(?:(?:Dr|Prof|Mr|Mrs|Ms|Dra|Sra?|Dott|Nurse|Frau|Herr|Shri|Smt)\b\.? ?(?:med\.? ?)?)?(?:{FULL}|{SHOUTED}))"
    r"(?:,? (?:MD|M\.D\.|MBBS|RN|PhD|DO)\b\.?)?\s{0,3}(?=[.,!;]?\s{0,4}(?:$|\n|[A-Z(]))"
)
DASHED = re.compile(rf"(?:\n|[.!?] ) ?[–—~-]{{1,2}} ?(?P<name>{FULL})(?:,? (?:MD|RN|PhD))?\s{{0,3}}$")
# --- a known given name with a surname behind it, or a surname in capitals with the given name

GIVEN_FIRST = re.compile(
    rf"(?<![\w'’.@/-])(?P<name>(?P<given>{WORD}|{CAPITALS})(?: {INITIAL}{{1,2}}| {WORD})? {PARTICLE}?(?P<last>{WORD}|{CAPITALS}))(?![\w@/-])"
)
COMMA = re.compile(rf", (?P<given>{CAPITALS}|{WORD})(?![\w@/-])")
BEFORE_COMMA = re.compile(
    rf"(?<![\w'’.@/-])(?P<name>(?P<last>{CAPITALS}|{WORD}), (?P<given>{CAPITALS}|{WORD}))(?![\w@/-])"
)


def find(seen: Seen) -> Iterator[Place]:
    """All names of people in a text."""
    yield from RULES.places(seen)
    for match in _paired(seen.text):
        yield "name", match.start(), match.end()
    if not seen.text.isascii():
        for match in scripts.find(seen.text):
            yield "name", match.start(), match.end()


def _labels(match: re.Match[str]) -> bool:
    before, _ = around(match, 20)
    name, label = match["name"], match[0]
    if not cued(match) or NOT_OF_PEOPLE.search(before):
        return False
    if known(name) or match["title"] or OF_ONE.match(label):
        return True
    return len(name_words(name)) > 1 and not label.startswith("name")  # `name: Text Generation` is of a file


def _says(match: re.Match[str]) -> bool:
    name = match["name"]
    if name[0].isupper():
        return cued(match)
    first = name_words(name)[0]
    return first not in NO_NAME and len(set(first)) > 1 and ("myself" not in match[0] or first in GIVEN | SURNAMES)


def _is_me(match: re.Match[str]) -> bool:
    """`I am Kavita Deshpande`, and not `I am Hispanic` or `This is Lyme Disease`."""
    return cued(match) and (known(match["name"]) or match["age"] is not None) and not is_history(match)


def _person(match: re.Match[str]) -> bool:
    return plausible(match["name"]) and known(match["name"]) and _is_person(match)


def _is_patient(match: re.Match[str]) -> bool:
    name = match["name"]
    if not (_is_person(match) and plausible(name)):
        return False
    return (known(name) and match[0][0].islower()) or (len(name_words(name)) > 1 and not name.isupper())


def _is_by(match: re.Match[str]) -> bool:
    """`Reviewed by J. Whitmore`, and not `Reviewed by Mayo Clinic`."""
    initials = re.match(r"[A-Z]\. ?", match["name"]) is not None or match["degree"] is not None
    return _is_person(match) and plausible(match["name"]) and (initials or known(match["name"]))


def _graduated(match: re.Match[str]) -> bool:
    """`Vincent Delacroix, MD`, and not `Duchenne MD`, a dystrophy."""
    return (
        cued(match)
        and len(name_words(match["name"])) > 1
        and ("," in match[0] or "." in match[0][-5:] or known(match["name"]))
    )


def _relation(match: re.Match[str]) -> bool:
    return cued(match) and not match["name"].isupper()


# fmt: off
RULES = Rules((
    Rule("name", LABEL_WORDS, LABELLED, _labels, left=1, right=130),
    Rule("name", "name names myself called call go heiße heisse appelle nom me llama nombre chiamo chiama nome chamo chama naam nam", SAYS, _says, left=40, right=110),
    Rule("name", "am m this bin soy sono sou s here", I_AM, _is_me, left=5, right=110),
    Rule("name", "named called name namens nommé nommée appelé appelée llamado llamada chamado chamada nome", NAMED, _person, left=16, right=110),
    Rule("name", RELATIVES, RELATION, _relation, left=40, right=70),
    Rule("name", "patient patiente patientin paciente paziente client resident neighbour pt", PATIENT, _is_patient, left=2, right=90),
    Rule("name", f"{DONE_BY} care spoke discussed met regarding ask operiert behandelt vu opéré atendido atendida visitato", BY, _is_by, left=16, right=110),
    Rule("name", "md m mbbs rn r np pa frcs mrcp frcp do d dds crna facp facs lcsw", DEGREE, _graduated, left=110, right=20),
    Rule("name", "dear hello hi hey liebe lieber hallo cher chère salut querido querida estimado estimada hola gentile caro cara ciao prezado prezada oi olá namaste good", GREETED, cued, left=2, right=110),
    Rule("name", "regards wishes thank thanks sincerely yours respectfully cheers warmly love care signed best grüße grüsse grüßen grüssen mfg lg vg cordialement amicalement merci salutations bises"
         " vous atentamente saludo saludos gracias abrazo besos saluti grazie baci atenciosamente abraços abraço att obrigado obrigada grato grata cumprimentos dhanyavaad dhanyawad", CLOSED, cued, left=40, right=130),
    *titles.RULES,
    Rule("name", "", DASHED, _person, ("\n-", "\n -", ". -", "! -", "? -", "–", "—", "~"), left=4, right=110),
))
# fmt: on


def _paired(text: str) -> Iterator[re.Match[str]]:
    """A known given name and a surname, in whichever order; in capitals both must be known."""
    for match in GIVEN_FIRST.finditer(text):
        given, last = match["given"].lower(), match["last"].lower()
        if match["given"].isupper() or (match["last"].isupper() and len(last) < 4):
            known = given in GIVEN and last in SURNAMES
        else:
            known = (
                (given in GIVEN or given.partition("-")[0] in GIVEN) and given not in WORDS_TOO and last not in NO_NAME
            )
        if (
            known or (given in WORDS_TOO and last in SURNAMES) or (given in SURNAMES and last in ROMANISED)
        ) and _is_person(match):
            yield match
    for comma in COMMA.finditer(text):
        if comma["given"].lower() not in GIVEN:
            continue
        pair = BEFORE_COMMA.search(text, max(0, comma.start() - 26), comma.end())
        if pair is not None and _is_last(pair) and _is_person(pair):
            yield pair


def _is_last(match: re.Match[str]) -> bool:
    last = match["last"].lower()
    if last in GIVEN or last in NO_NAME:
        return False
    return last in SURNAMES or (match["last"].isupper() and len(match["given"]) > 3)


def _is_person(match: re.Match[str]) -> bool:
    after = match.string[match.end() : match.end() + 40].split("\n")[0]
    before = match.string[max(0, match.start() - 40) : match.start()]
    following = re.match(r"(?:['’]s?)?(?:[ -][A-Za-z'’-]+){0,3}", after)
    return not (
        INSTITUTION.search(match["name"])
        or (following and (INSTITUTION.search(following[0]) or DISEASE.search(following[0])))
        or re.search(r"(?:\bSt\.?|Saint|San|Santa|[-–/&]) ?$", before)
        or re.match(r"[-–/]", after)
        or is_history(match)
    )
