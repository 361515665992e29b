"""What stands where a name of a person would, and is none: common words, institutions, diseases, and people of history."""

from __future__ import annotations

import re

from medrecipes.release.personal_data.rule import bag

# fmt: off
# what stands where a name would, and is none; the artefact of HealthCareMagic among them
NO_NAME = bag("""
    a about abnormal absolutely according actually additional advice advised after again age aged all allergic
    allergies allergy also although am american an and annual another any anyone anybody app appointment are around as
    ask asked at back be because been before being best better bless blood both brain but by bye call came can cancer
    care case cause chat chatdoctor check cheers child children chronic clinic clinical code come complete congo could
    daily date day days dear department did different diet discharge disease do doc doctor doctors does doing done due
    during each earlier either else enter even every everybody everyone everything examination family female file find
    first follow following for forum found friend friends from full further general generic get gets getting give
    given god going good got great greetings group guys had has have having he health healthcare heart hello help her
    here hers hi his history home hope hoping hospital how however husband i icu if ill important in information
    initially insurance is it its jay just kind kindly know ladies last later let like look looking love ma maam made
    madam madame male many may me medical medicine mild mom more most mother much mum must my name need needs never
    new next nil no non none normal not note nothing now number of off ok old on once one only or other our out over
    own pain patient patients people physical please pls positive possible pray prescribed problem questioner query
    question quite rather reader really recently recommend recommended regard regards report reports request respected
    respectfully results routine said same saw sees seen severe she should show side since sincerely single sir sirs
    so some someone something son sorry specialist started stated still study suddenly suggest suggested surgeon
    surgery symptoms take taken taking team tell test tests than thank thanking thanks that the their them then there
    these they think this those though thought three through thus time to today told tomorrow too treatment tried
    trial twice two type under unfortunately unknown unnamed until up upon us use used user using usually very via
    visit visits wait waiting want wants ward warm warmly was way we welcome well went were what when where which
    while who whole whom whose why will wish wishes wishing with within without woman women wonder would wrote year
    years yes yesterday yet you your yours xray xxx xxxx xxxxx yo january february march april june july august
    september october november december monday tuesday wednesday thursday friday saturday sunday english spanish asian
    african indian chinese hispanic white black caucasian european british french german parent parents oh ah um hmm
    sure ya ji kids not applicable smoker diabetic pregnant married retired student male female pending ich du er sie
    es wir ihr und der die das ein eine nicht hallo guten tag bitte danke patient patientin je tu il elle nous vous et
    les des un une ne pas bonjour merci monsieur docteur patiente yo él ella nosotros y el los las una no hola gracias
    doctor doctora paciente señor señora io lui lei noi voi gli le un una non buongiorno grazie dottore dottoressa
    paziente eu ele ela nós os as um uma não olá obrigado obrigada doutor doutora
""")
# of these, what no surname is either
FUNCTION = bag("""
    a about after again all also am an and any are as at be because been before but by can could did do does doing for
    from get had has have having he her here hers him his how i if in into is it its me my no nor not of off on or our
    out over please she should since so some than thank thanks that the their them then there these they this those to
    too under until up us was we were what when where which while who whom why will with would you your yours said
    says who was und der die das ist nicht et les des est pas el los las que gli che os as um uma não
""")
# what a company of words with one of these in it is called: no person
INSTITUTION = re.compile(
    r"\b(?:hospital|clinic|cent(?:er|re)|foundation|institut\w{0,3}|university|college|school|society|association|syndrome|disease|sign|test|law|act|award|prize|"
    r"program\w{0,2}|project|study|trial|scale|score|index|method|procedure|operation|manoeuvre|maneuver|tube|catheter|bodies|body|cell|cells|virus|fever|"
    r"anomaly|malformation|dystrophy|atrophy|palsy|paralysis|tumou?rs?|sarcoma|lymphoma|carcinoma|disorder|deficiency|reaction|criteria|classification|"
    r"street|road|avenue|city|county|state|park|island|lake|river|valley|beach|united|national|international|department|ministry|council|bureau|agency|"
    r"nodule|page|company|inc|ltd|llc|gmbh|press|journal|publish\w{0,4}|library|laborator\w{1,3}|pharma\w{0,8}|day|week|month|house|church|saint|st|type|mutation|gene|"
    r"protein|factor|ataxia|neuropathy|anemia|anaemia|dysplasia|stokes|barr|tooth|wort|sequence|ray|phenomenon|triad|toxins?|islands|arbor|fields?|event|visual|rats|mice|sinensis|"
    r"hopkins)\b",
    re.IGNORECASE,
)
DISEASE = re.compile(r"\b\w{2,20}(?:osis|itis|emia|aemia|pathy|trophy|plegia|trichosis|oma)\b", re.IGNORECASE)
FOUND_OUT = re.compile(
    r"\b(?:named (?:after|for)|(?:first|was|were|originally) (?:described|identified|discovered|reported|recogni[sz]ed)|described by|discovered by|eponym\w{0,3}|"
    r"pioneer\w{0,3}|inventor|nobel|philosopher|historian|(?:in|since) 1[5-8]\d\d|"
    r"(?:first|who|described|discovered|identified|invented|reported|introduced|noticed|published|coined|proposed|developed)\b.{0,60}\b1[5-9]\d\d|"
    r"1[5-9]\d\d\b.{0,60}\b(?:first|described|discovered|identified|invented|reported|introduced|noticed|published|coined|proposed|developed)|"
    r"beschrieben von|décrit\w{0,2} par|descrit[ao] p[oe]r|descritt\w da)\b"
)
# fmt: on
