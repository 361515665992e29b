"""Where a person can be reached or seen on the net: mailboxes, profiles, pages, machines and pictures.

An institution's own lines stay: mailboxes that bear a task rather than a name (`info@…`).
"""

from __future__ import annotations

import ipaddress
import re

from medrecipes.release.personal_data.rule import Rule, Rules, around

# any mailbox but those of a task; addresses that were masked before hold a word for it
MAILBOX = re.compile(
    "info|contact|help|support|service|office|admin|staff|webmaster|webmail|postmaster|mail|enquir|inquir|question|"
    "press|media|privacy|reply|subscri|register|registry|feedback|hotline|library|public|center|centre|outreach|"
    "masked|redacted|removed|hidden",
    re.IGNORECASE,
)


def _is_mailbox_of_a_person(match: re.Match[str]) -> bool:
    local, _, domain = match[0].partition("@")
    if not domain:  # written out: nobody hides the mailbox of an office
        return True
    # prpl@mail.cc.nih.gov, 2020@nei.nih.gov: a government's mailbox without a name in it
    plain = domain.lower().endswith((".gov", ".mil")) and not re.search(r"[._-]", local)
    return not (MAILBOX.search(local) or plain)


def _is_address_of_a_machine(match: re.Match[str]) -> bool:
    """A machine's, and no version (`v2.0.1.3`), enzyme (`EC 1.1.1.1`) or chapter."""
    before, _ = around(match, 12)
    return all(int(part) < 256 for part in match[0].split(".")) and not re.search(
        r"(?:\bec|\bv|ver|version|release|section|chapter|no)[ .:]*$", before
    )


def _is_sixth(match: re.Match[str]) -> bool:
    try:
        address = ipaddress.IPv6Address(match[0])
    except ValueError:
        return False
    return not address.is_loopback and len(re.findall(r"[0-9A-Fa-f]+", match[0])) > 2


def _is_card(match: re.Match[str]) -> bool:
    """The number of a network card, and no row of measured values."""
    return re.search(r"[A-Fa-f]", match[0]) is not None


NETWORK = (
    r"(?:facebook|fb|twitter|x|instagram|linkedin|tiktok|snapchat|pinterest|myspace|flickr|tumblr|vk|weibo|orkut|xing|t|wa|line)\.(?:com|me|ru)/"
    r"(?:in/|pub/|u/|users?/|profile(?:\.php\?id=|/)|add/|people/|@)?"
    r"(?!(?:pages?|groups?|hashtag|share|watch|events?|NIH|CDC|FDA|company|sharer|intent)\b)[\w.@-]{3,64}"
)
HANDLE = (
    r"twitter|instagram|insta|telegram|tiktok|snapchat|snap|skype|discord|facebook|wechat|weixin|zalo|follow me(?: on \w{1,20})?|message me(?: on \w{1,20})?|"
    r"find me(?: on \w{1,20})?|add me(?: on \w{1,20})?|username|user name|screen name"
)
PHOTO = r"photos?|pictures?|pics?|selfies?|images?|snapshots?|foto|bild|imagem|imagen|immagine|写真|照片"
MAIL = "gmail yahoo hotmail outlook icloud aol proton protonmail gmx web live rediff rediffmail rediffmail ymail msn orange wanadoo libero uol bol qq 163 naver"
# fmt: off
RULES = Rules((
    Rule("e-mail", "", re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,6}\.[A-Za-z]{2,24}(?![A-Za-z0-9])"), _is_mailbox_of_a_person, ("@",), 66, 200),
    Rule("e-mail", f"dot punkt punto ponto arroba {MAIL}", re.compile(
        r"(?i)(?<![\w.+-])[\w+-]{1,40}(?:(?:\.| dot | ?[\[({] ?dot ?[\])}] ?)[\w+-]{1,40}){0,3} ?(?:[\[({] ?(?:at|arroba|@) ?[\])}]| at | arroba ) ?[\w-]{1,63}"
        r"(?: ?[\[({] ?(?:dot|punkt|punto|ponto|point) ?[\])}] ?| (?:dot|punkt|punto|ponto) |\.)(?:com|org|net|edu|in|uk|co|de|fr|es|it|br|jp|cn|eu|us|me|io)\b"),
        _is_mailbox_of_a_person, ("[at", "(at", "{at", "( at", "[ at", "(arroba", "[arroba")),
    Rule("user link", "facebook fb twitter x instagram linkedin tiktok snapchat pinterest myspace flickr tumblr vk weibo orkut xing t wa line",
         re.compile(rf"(?i)(?<![\w.-])(?:www\.|m\.|[a-z]{{2}}\.)?{NETWORK}")),
    # a name alone; with another behind it, it is a project
    Rule("user link", "github", re.compile(r"(?i)\bgithub\.com/[\w-]{1,64}(?![\w/-])")),
    Rule("user link", "", re.compile(r"(?i)https?://[\w.-]{1,100}/~[\w.-]{1,64}"), None, ("/~",), 110),
    Rule("user link", "user users profile profiles member members patient patients account accounts people",
         re.compile(r"(?i)https?://[\w.:-]{1,100}/(?:[\w.-]{1,40}/){0,3}(?:users?|profiles?|members?|patients?|accounts?|people)/[\w.-]{0,63}[\w]"), left=240),
    Rule("user link", "", re.compile(r"(?i)https?://[^\s<>\"?]{1,200}\?[^\s<>\"]{0,100}?(?:patient|patient_?id|mrn|user|uid|user_?id)=[\w.-]{2,64}"),
         None, ("patient=", "patient_id=", "patientid=", "mrn=", "user=", "uid=", "userid=", "user_id="), 330),
    Rule("user link", "blogspot wordpress tumblr substack github wixsite livejournal",
         re.compile(r"(?i)(?<![\w.-])(?!www\.)[a-z0-9][a-z0-9-]{2,62}\.(?:blogspot\.[a-z.]{2,6}|wordpress\.com|tumblr\.com|substack\.com|github\.io|wixsite\.com|livejournal\.com)")),
    Rule("user link", "website blog page homepage site profile",
         re.compile(r"(?i)\b(?:my|mein|mon|mi|meu) (?:personal )?(?:website|blog|(?:home)?page|site|profile)(?: is| at|:|,)? ?(?:at )?(?:https?://)?[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}(?:/[\w./-]{0,80})?")),
    Rule("user link", "twitter instagram insta telegram tiktok snapchat snap skype discord facebook wechat weixin zalo me username user screen",
         re.compile(rf"(?i)\b(?:{HANDLE})(?: (?:id|handle|name|user(?:name)?|account))?(?: (?:is|at|as|on|under|me))*[ :]{{1,3}}@?(?=[\w.-]{{0,40}}(?:[\d_@]|\.\w)|(?<=@))[\w.-]{{2,40}}\w")),
    Rule("user link", "line", re.compile(r"(?i)(?:微信号?|加我微信|\bQQ(?:号|[:：])|微博|ラインID|LINE ?ID)(?:是|は|[:：])? ?@?[A-Za-z0-9_][\w.-]{4,30}"), None, ("微信", "qq", "微博", "ライン")),
    Rule("machine address", "", re.compile(r"(?<![\w.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w.]{0,3}\d)"), _is_address_of_a_machine,
         tuple(f"0.{a}.{b}.0" for a in ("0", "00", "000") for b in ("0", "00", "000")), 4, 20),
    Rule("machine address", "", re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{4,39}(?![\w:])"), _is_sixth, ("::", "0:0", "0:a", "0:f", "a:0", "f:0", "e:0"), 40, 44),
    Rule("machine address", "mac bluetooth address adresse 00", re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})(?![\w:-])"), _is_card, ("0:", "0-"), 4, 60),
    Rule("photo", "jpg jpeg png heic gif bmp tif tiff dcm webp",
         re.compile(r"(?i)(?<![\w./-])(?:[\w-]{0,40}?(?:img|dsc|face|selfie|photo|portrait|headshot|mugshot|passport|me|foto|visage|gesicht|rostro|patient)[\w-]{0,40})\.(?:jpe?g|png|heic|gif|bmp|tiff?|dcm|webp)\b")),
    Rule("photo", "imgur flickr photos photobucket postimg ibb icloud",
         re.compile(r"(?i)(?:https?://)?(?:[\w-]{1,30}\.)?(?:imgur\.com|photos\.app\.goo\.gl|photos\.google\.com|photobucket\.com|postimg\.\w{2,4}|ibb\.co|icloud\.com/photos|flickr\.com/photos)/[\w./#-]{3,100}")),
    Rule("photo", "http https",
         re.compile(rf"(?i)(?:{PHOTO})(?: (?:of|von|de|di) (?:me|my \w{{1,12}}|him|her|mir|moi|mí|me|mim)(?: \w{{1,12}})?)(?: (?:is|are))?(?: at| here| hier)?[: ]{{1,3}}https?://[^\s<>\"]{{4,200}}"), right=210),
    Rule("photo", "base00", re.compile(r"(?i)data:image/[a-z+]{3,8};base64,[A-Za-z0-9+/=]{16,64}"), left=24, right=80),
))
# fmt: on
