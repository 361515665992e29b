"""Where somebody lives: streets and houses, postal codes with their towns, and coordinates."""

from __future__ import annotations

import re
from string import ascii_lowercase

from medrecipes.release.personal_data.rule import Check, Rule, Rules, around, either

STREET = (
    r"Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|Pl|Parkway|Pkwy|Terrace|Crescent|"
    r"Close|Square|Highway|Hwy|Circle|Trail|Gardens|Grove|Mews|Row|Walk|Loop|Alley|Marg|Nagar|Salai"
)
STATE = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
)
BIG = r"[A-ZÀ-ÖØ-Þ][\wÀ-ÿ.'’-]{1,24}"
LINKS = r"(?:(?:de|da|do|das|dos|del|della|dei|delle|des|du|la|le|les|los|las|l['’]|d['’]|of|the|am|an|der|dem|den|im|in|zum|zur|y|e|et) ?){0,3}"
NAMED = rf"(?:{LINKS}{BIG} ?){{1,4}}"
HOUSE = r"(?!0)\d{1,5}(?: ?(?:bis|ter|[a-zA-Z]))?(?:[/-]\d{1,4}[a-zA-Z]?)?"
LIVES = re.compile(
    r"\b(?:live[sd]?|living|reside[sd]?|residing|resident of|home is|address|from|moved to|stay(?:s|ing)? (?:at|in)|house|send|mail|post|deliver|"
    r"wohn\w{0,6}|adresse|anschrift|aus|postanschrift|schicken|zuhause|habit\w{0,4}|demeur\w{0,3}|domicil\w{0,4}|chez|adress\w{0,2}|"
    r"viv[eoi]\w{0,3}|reside|dirección|direccion|casa|enviar|remitir|abit\w{0,3}|residente|risiede|indirizzo|spedire|mor[ao]\w{0,2}|endereço|endereco|enviem?|"
    r"city|town|near)\b"
)
COUNTRIES = re.compile(
    r"(?:the |a |an )?(?:usa?|uk|united|america|england|scotland|wales|ireland|canada|mexico|india|china|japan|germany|france|spain|italy|brazil|australia|africa|asia|"
    r"europe|north|south|east|west|central|new zealand|pakistan|nepal|bangladesh|egypt|israel|russia|switzerland|austria|netherlands|belgium|sweden|norway|"
    r"denmark|finland|poland|turkey|greece|portugal|indonesia|malaysia|singapore|thailand|vietnam|philippines|korea|nigeria|kenya|ghana|"
    r"latin|middle|pacific|california|texas|florida|ohio|michigan|virginia|georgia|arizona|colorado|oregon|alaska|hawaii|nevada|utah|kansas|iowa|"
    r"illinois|indiana|wisconsin|minnesota|maryland|tennessee|kentucky|alabama|louisiana|oklahoma|nebraska|montana|maine|vermont|idaho)\b"
)


def _is_home(match: re.Match[str]) -> bool:
    """A postal code and a town where somebody lives; elsewhere five digits and a word are an amount of something."""
    before, after = around(match, 60)
    return (
        LIVES.search(before) is not None
        or re.match(r"\s*(?:,|und|et|y|e)?\s*(?:wohn|habit|viv|abit|mor)", after) is not None
    )


def _is_place(match: re.Match[str]) -> bool:
    """On the earth, and no pair of measured values: at least four places behind the point."""
    north, east = (float(n) for n in re.findall(r"-?\d{1,3}\.\d+", match[0].replace("−", "-"))[:2])
    return abs(north) <= 90 and abs(east) <= 180


def _is_written(match: re.Match[str]) -> bool:
    """A postal address behind the word for it, and not a mailbox, a page or a machine's."""
    rest = match["rest"]
    return not re.search(r"@|://|www\.|\d\.\d+\.\d", rest) and (
        any(c.isdecimal() for c in rest) or len(re.findall(BIG, rest)) > 1
    )


def _is_town(match: re.Match[str]) -> bool:
    return COUNTRIES.match(match["town"].lower()) is None


CITIES = """mumbai delhi bengaluru bangalore hyderabad chennai madras kolkata calcutta pune ahmedabad surat jaipur lucknow kanpur nagpur indore thane bhopal patna vadodara
    ghaziabad ludhiana agra nashik faridabad meerut rajkot varanasi srinagar aurangabad dhanbad amritsar ranchi coimbatore gwalior vijayawada jodhpur madurai raipur kota
    guwahati chandigarh mysore mysuru trichy salem bhubaneswar kochi cochin gurgaon gurugram noida dehradun jammu mangalore udaipur trivandrum thiruvananthapuram"""


def _rule(
    words: str, pattern: str, counts: Check | None = None, signs: tuple[str, ...] = (), left: int = 72, right: int = 140
) -> Rule:
    return Rule("address", words, re.compile(pattern), counts, signs, left, right)


def _says(words: str, reach: int = 80) -> Check:
    """Whether one of these words stands near a match."""
    pattern = re.compile(rf"\b(?:{words})\b")
    return lambda match: any(pattern.search(side) for side in around(match, reach, reach))


# fmt: off
RULES = Rules((
    _rule("live lives reside resides address",
          r"(?i)\b(?:(?:I|we|he|she|they|patient) (?:lives?|resides?) at|(?:my|home|residential|postal|mailing|his|her|patient) address(?: is)?[ :]{1,3})[ :]?#?\d[^\n.;]{5,60}", left=16, right=90),
    _rule("address adresse anschrift domicilio indirizzo endereço endereco dirección direccion residence residenza domicile",
          r"(?:(?i:\b(?:address|adresse|anschrift|domicilio|indirizzo|endere[cç]o|direcci[oó]n|residence|residenza|domicile))|住所|地址|पता) ?[:：] ?(?P<rest>[^\n;]{5,70})", _is_written, ("住所", "地址", "पता"), 2, 100),
    _rule("wohnt wohne wohnhaft habite habito vive vivo abita abito mora moro demeure demeurant domicilié domiciliée",
          rf"(?i:\b(?:wohn(?:t|e|haft)|habit[eo]|viv[eo]|abit[ao]|mor[ao]|demeure|demeurant|domiciliée?)\b[ :](?:(?:in|im|am|au|à|aux|en|na|no|nella|der|la|el|alla|dem) ){{0,2}}){NAMED},? ?{HOUSE}\b", left=2, right=120),
    _rule("lives live living stay stays staying reside resides residing moved resident",
          rf"(?i:\b(?:lives?|living|stay(?:s|ing)?|reside[sd]?|residing|moved|resident)(?: (?:at|to|of|in)){{1,2}}) {HOUSE},? {NAMED}", left=2, right=110),
    _rule("flat apartment apt house studio h plot door",
          r"\b(?:[Ff]lat|[Aa]partment|[Aa]pt\.?|[Hh]ouse|[Ss]tudio|H\. ?|[Pp]lot|[Dd]oor)(?: ?(?:[Nn]o|[Nn]umber)\.?)? ?#?\d{1,5}[A-Za-z]?(?:[/-]\d{1,4}){0,3}[A-Za-z]?,(?: (?:[A-Z]|\d)[\w.'’/-]{0,24}){1,5}", left=0, right=160),
    _rule(f"{STREET.lower().replace('|', ' ')}",
          rf"\b(?:\d{{1,4}}/)?\d{{1,5}}[A-Za-z]?,? (?:(?:North|South|East|West|[NSEW]\.?|NE|NW|SE|SW) )?(?:(?:[A-Z][a-zà-ÿ'’]{{1,24}}|MG|[A-Z]\.|\d{{1,3}}(?:st|nd|rd|th)) ){{1,3}}(?:{STREET})\b", right=16),
    _rule("street st avenue ave road rd lane blvd boulevard drive court",
          r"(?i)\b\d{2,5} (?:[nsew]\.? )?(?:[a-z]{3,16} |\d{1,3}(?:st|nd|rd|th) ){1,2}(?:street|st|avenue|ave|road|rd|lane|blvd|boulevard|drive|court)\b\.?(?:,? (?:apt|unit|suite|#) ?\w{1,5}|(?=,|\.|$))", right=30),
    _rule("no", rf"\bN[oO]\.? ?\d{{1,5}},? (?:[A-Z][a-z]{{1,20}} ){{1,3}}(?:{STREET})\b", left=2),
    _rule("box postfach apartado postal postale", r"(?i)\b(?:P\.? ?O\.? ?Box|Postfach|Apartado(?: de correos)?|Caixa Postal|Boîte postale|Casella postale) ?\d[\d ]{0,8}\d", left=14, right=40),
    _rule("00000", rf"\b[A-Z][a-z]{{1,20}}(?: [A-Z][a-z]{{1,20}}){{0,3}},? (?:{STATE})\.? \d{{5}}(?:-\d{{4}})?\b", right=24),
    _rule(" ".join(f"0{a}{b}" for a in ascii_lowercase for b in ascii_lowercase), r"(?<![\w-])(?:[A-PR-UWYZ][A-HK-Y]?\d[A-HJKMNP-Y\d]?) \d[ABD-HJLNP-UW-Z]{2}\b", left=6, right=8),
    _rule("code pincode postcode zip cep plz postleitzahl cp cap pin",
          r"(?i)(?:\b(?:pin ?code|post ?code|postal code|zip(?: code)?|cep|plz|postleitzahl|code postal|código postal|(?-i:C\.P\.|CP ?:|CAP)|pin)|邮编|郵便番号)(?: is| é| ist| est| es|是|は)?[ :：.-]{0,3}\b[A-Z0-9]{0,4}\d[A-Z0-9-]{2,8}(?: \d[A-Z]{2})?\b",
          lambda match: sum(c.isdecimal() for c in match[0]) >= 4 or "code" in match[0].lower(), ("邮编", "郵便"), 8, 40),
    _rule("straße strasse str weg platz gasse allee ring damm ufer", rf"(?<![\w-])(?:[A-ZÄÖÜ][\wäöüß]{{1,20}}-){{1,4}}(?:Straße|Strasse|Str\.|Weg|Platz|Gasse|Allee|Ring|Damm|Ufer) {HOUSE}(?!\w)"),
    _rule("straße strasse weg platz", rf"\b[A-ZÄÖÜ][\wäöüß-]{{1,24}}(?:straße|strasse|str\.|weg|platz|gasse|allee|damm|ufer) {HOUSE}(?!\w)", None,
          ("straße 0", "strasse 0", "str. 0", "weg 0", "platz 0", "gasse 0", "allee 0", "damm 0", "ufer 0"), 30, 24),
    _rule("wohnhaft wohnt wohne wohnen anschrift adresse zuhause",
          r"\b(?:Am|An der|Im|In der|In den|Zum|Zur|Auf der|Auf dem|Unter den|Alte[rn]?|Neue[rn]?|Große|Kleine) [A-ZÄÖÜ][\wäöüß-]{2,24}(?: (?:Straße|Weg|Platz))? \d{1,4}[a-z]?(?=[,.;]|$| in | \d{5})",
          left=2, right=90),
    _rule("00000", r"(?<![\w.,-])(?:D-)?\d{5},? (?!Mg|Ml|Patient|People|Cases|Units|Euro|EUR|USD)[A-ZÄÖÜÉÈ][a-zäöüßéèêàâîôûçñóíáú-]{2,24}(?: (?:[A-Z][a-zé-]{1,20}|am|an|der|de|del|la|sur|sous|im)){0,3}\b", _is_home),
    _rule("rue avenue av boulevard bd chemin impasse place allée quai route cours square faubourg",
          rf"\b\d{{1,4}}(?: ?(?:bis|ter|[A-Z]))?,? (?i:rue|avenue|av\.|boulevard|bd|chemin|impasse|place|allée|quai|route|cours|square|faubourg) {NAMED}", left=16),
    _rule("calle c avenida avda av plaza pza paseo carrer ronda camino carretera travesía",
          rf"(?i:\b(?:calle|c/|avenida|avda?\.|plaza|pza\.|paseo|carrer|ronda|camino|carretera|travesía)) ?{NAMED},? ?(?:(?:n[º°.]|núm\.?|número) ?)?{HOUSE}(?:, ?\d{{1,2}} ?[ºª])?", left=2),
    _rule("via viale piazza corso vicolo largo strada", rf"(?i:\b(?:via|viale|v\.le|piazza|p\.zza|corso|c\.so|vicolo|largo|strada)) {NAMED},? ?(?:n\. ?)?{HOUSE}\b", left=2),
    _rule("rua r avenida av travessa alameda praça rodovia estrada", rf"(?i:\b(?:rua|r\.|avenida|av\.|travessa|alameda|praça|rodovia|estrada)) {NAMED},? ?(?:n[º°.] ?)?{HOUSE}\b", left=2),
    _rule("00000", r"(?<![\w.-])\d{5}-\d{3}(?![\w-])", _says(r"cep|mor[oa]|endere\w*|rua|bairro|sp|rj|mg|rs|pr|sc|ba|pe|ce")),
    _rule("", r"〒 ?\d{3}-?\d{4}", None, ("〒",)),
    _rule("", r"[都道府県市][一-龠ぁ-んァ-ヶー]{2,20}\d{1,4}(?:丁目|番地?|号|[-－]\d{1,4}){1,4}", None, ("丁目", "番地", "都", "県", "府", "市", "区")),
    _rule("ku shi cho machi chome", r"\b\d{1,2}-\d{1,2}(?:-\d{1,3})?,? [A-Z][a-z]{2,20}(?:-(?:cho|machi|ku|chome))?,? [A-Z][a-z]{2,20}-(?:ku|shi)\b"),
    _rule("", r"[一-龠]{1,3}(?:路|街|大道|巷|弄|胡同)(?:\d{1,5}号?(?:院|楼|弄)?|[A-Za-z]座)(?:\d{1,4}(?:号楼|单元|室|号|栋|座)){0,4}", None, ("路", "街", "号", "弄", "巷")),
    _rule("000000 000", r"\b[A-Z][a-z]{2,20}(?: [A-Z][a-z]{2,20})?[ ,-]{1,3}[1-8]\d{2} ?\d{3}(?![\w,.-]\d|\w)",
          _says(r"from|lives?|address|resid\w*|stay|nagar|road|colony|sector|near|dist|district|send"), left=48, right=12),
    _rule(CITIES, rf"(?i:\b(?:{either(CITIES)}))[ ,–-]{{1,3}}[1-8]\d\d ?\d{{3}}(?![\w,.-]\d|\w)", left=1, right=36),
    _rule("sector block phase ward", r"\b(?:Sector|Block|Phase|Ward)[- ]?\d{1,3}[A-Z]?,? (?:[A-Z][a-z]{2,20} ?){1,3}(?:Nagar|Colony|Layout|Vihar|Enclave|Noida|Gurgaon|Gurugram|Chandigarh)\b", left=2),
    _rule("nagar colony vihar enclave layout puram", r"\b\d{1,4}[A-Z]?(?:[/-]\d{1,4})?,? (?:[A-Z][a-z]{2,20} ){1,2}(?:Nagar|Colony|Vihar|Enclave|Layout|Puram|Society|Apartments?)\b"),
    _rule("live lives living reside resides residing resident hometown town from",
          r"\b(?:(?i:(?:I|we|he|she|patient|now|currently) (?:live|reside)s? in|am living in|am residing in|(?:a )?resident of|home ?town (?:is|of)|(?:I am|I['’]m|we are) from)) (?P<town>[A-Z][a-zà-ÿ]{2,20}(?: [A-Z][a-zà-ÿ]{2,20}){0,2})\b",
          _is_town, left=20, right=90),
    _rule("0000 00000 000000 0000000", r"(?<![\w.=&,])[-−]?\d{1,2}\.\d{4,8}(?: ?° ?[NS])?,? ?[-−]?\d{1,3}\.\d{4,8}(?: ?° ?[EWO])?(?![\w.])", _is_place, left=6, right=30),
    _rule("", r"\b\d{1,2}° ?\d{1,2}['’′] ?(?:\d{1,2}(?:\.\d{1,4})?[\"”″] ?)?[NS],? ?\d{1,3}° ?\d{1,2}['’′] ?(?:\d{1,2}(?:\.\d{1,4})?[\"”″] ?)?[EWO]\b", None, ("°",)),
))
# fmt: on
