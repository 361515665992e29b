"""Names of people in Chinese, Japanese and Hindi: by the words that stand beside them, for no letter is larger there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medrecipes.release.personal_data.rule import bag

# fmt: off
HAN = "一-龠々"
SURNAME_HAN = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤傅岳鞠乔樊鲁洪柳殷庞颜翟安易倪耿葛伍柯温齐牛俞章申尤盛骆甘焦靳祝管裴"
CHINESE = re.compile(
    rf"(?:姓名|我叫|我是|名叫|名字[是叫]|联系人|签名|家属|医[生师]|主任)[:：]? ?(?P<name>[{HAN}]{{2,3}})(?=[，,。、；;（( \n]|$)"
    rf"|(?:患者|病人|母亲|父亲|儿子|女儿|丈夫|妻子) ?(?P<of>[{SURNAME_HAN}][{HAN}]{{1,2}}?)(?=[，,。、（( ]|先生|女士|因|于|男|女|$)"
    rf"|(?P<other>[{SURNAME_HAN}][{HAN}]{{0,2}}?)(?:先生|女士|小姐|医生|大夫|主任|教授|护士|医师|阿姨|老师|同志)"
)
NO_CHINESE = re.compile(r"高[烧热血压]|白[细血带]|黄[疸色]|严重|常[规常见]|金[属黄]|石[膏头]|方[面法便]|安[全静慰]|温[度和]|何时|何[种人]|任何|于[是]|向[医我]|管[理子]|祝|万一|程度|龙[胆]|牛[奶肉]|马[上]|江|雷[尼]|是|主治|首席|值班|家庭")
JAPANESE = re.compile(rf"(?P<name>[{HAN}]{{2,6}}|[{HAN}]{{1,4}}[ぁ-んァ-ヶ]{{1,4}}[{HAN}]?|[ァ-ヶー]{{2,10}}[・ ][ァ-ヶー]{{2,10}}|[{HAN}]{{1,3}} [{HAN}ぁ-んァ-ヶ]{{1,3}})(?:さん|様|氏|先生|殿|ちゃん|くん|君)")
JAPANESE_LABEL = re.compile(rf"(?:氏名|患者名|名前は|お名前|患者氏名|担当医?|主治医|保護者|私)[:：はも]?[ ]?(?P<name>[{HAN}]{{1,4}}[ 　]?[{HAN}ぁ-んァ-ヶ]{{1,4}}?|[ァ-ヶー]{{2,10}}[・ 　][ァ-ヶー]{{2,10}})(?=です|と申します|と言います|といいます|、|。|$|\s|先生)")
NO_JAPANESE = re.compile(r".*(?:患者|医者|看護師|業者|店員|医師|助産師|薬剤師|保健師|主治医|担当医|教授|お客|皆|お婆|お爺|お母|お父|お姉|お兄|赤|お子|患者の皆)|[母父奥娘息子神親弟妹兄姉祖王仏先生同某各皆叔伯]{1,2}|旦那|息子|お.*")
HINDI = re.compile(r"(?:मेरा नाम|नाम[:：]?|श्रीमती|श्री|डॉ\.?|सुश्री|रोगी का नाम[:：]?|मरीज[:：]?) (?P<name>[\u0900-\u097F]{2,20}(?: [\u0900-\u097F]{2,20})?)")
HINDI_NOT = bag("है हैं और का की के में से को क्या नहीं कि यह वह जो मेरा आप हम")
# fmt: on


def find(text: str) -> Iterator[re.Match[str]]:
    """Every name in these scripts."""
    for match in CHINESE.finditer(text):
        if not NO_CHINESE.match(match["name"] or match["of"] or match["other"]):
            yield match
    for pattern in (JAPANESE, JAPANESE_LABEL):
        yield from (match for match in pattern.finditer(text) if not NO_JAPANESE.fullmatch(match["name"]))
    yield from (match for match in HINDI.finditer(text) if match["name"].split()[0] not in HINDI_NOT)
