"""Planted personal data of ten countries and eighteen kinds, in sentences as people write them; nobody of these exists.

Each line: the country's letters, the kind that HIPAA's Safe Harbor lists, the words that must be found, and the sentence.
Check digits are right where a number has them. The first list was written before the rules. The others were written
when the rules were done, each tried unseen: 89%, 92% and all were found, and what was missed was mended by rule.
"""

from __future__ import annotations

PLANTED = r"""
US | name | Harold Whitfield | I was referred to Dr. Harold Whitfield after the second biopsy came back abnormal.
US | name | Denise Calloway | The night nurse, Mrs. Denise Calloway, noticed that the drip had stopped.
US | name | Okafor | Prof. Okafor thinks that we ought to lower the dose before winter.
US | name | MARLOWE, JUSTINE | PATIENT: MARLOWE, JUSTINE   WARD 6   ALLERGIES: NONE KNOWN
US | name | Tyrone Beasley | Pt name - Tyrone Beasley, came in walking, no acute distress.
US | name | amanda rourke | hi there, my name is amanda rourke and my knee has been swelling since june
US | name | Gregory Stanton | Gregory Stanton was brought to the emergency room by his neighbour at dawn.
US | name | Melissa | My daughter Melissa has had a fever for three days and won't drink.
US | name | Vincent Delacroix | Discharge summary dictated by Vincent Delacroix, MD, and read back to the ward.
US | name | Walt Kaminski | Thanks a lot for your time,\nWalt Kaminski
US | name | Lorraine | Hey Lorraine, the cough you describe sounds viral to me.
GB | name | Nigel Hargreaves | Mr Nigel Hargreaves attended clinic with his wife and seems much brighter.
GB | name | PRITCHARD | Seen today: MRS PRITCHARD, unsteady on her feet, lives alone.
GB | name | Siobhan O'Callaghan | Please could Dr Siobhan O'Callaghan ring the relatives back this evening?
GB | name | Fiona Mackenzie-Reid | Next of kin: Fiona Mackenzie-Reid (sister), keyholder.
DE | name | Jürgen Breitner | Herr Jürgen Breitner klagt seit gestern über starke Kopfschmerzen.
DE | name | Lindemann | Wir berichten über Frau Lindemann, die sich erneut bei uns vorstellte.
DE | name | Heike Vollmer | Mit freundlichen Grüßen\nDr. med. Heike Vollmer
DE | name | Sabine Kestner | Guten Tag, mein Name ist Sabine Kestner und ich nehme seit Mai Ramipril.
FR | name | Bertrand Lacombe | J'ai consulté le docteur Bertrand Lacombe pour mes vertiges.
FR | name | Chevallier | Mme Chevallier se plaint de douleurs au genou gauche depuis un mois.
FR | name | Aurélie Fontanet | Bonjour, je m'appelle Aurélie Fontanet et je prends de la metformine.
FR | name | MOREL Thierry | Nom du patient : MOREL Thierry, chambre 12, régime sans sel.
ES | name | Consuelo Iglesias | La paciente doña Consuelo Iglesias refiere dolor torácico de dos horas.
ES | name | Ramírez | El Sr. Ramírez no tolera la aspirina y pide otra cosa.
ES | name | Gonzalo Urrutia | Hola, me llamo Gonzalo Urrutia y tengo fiebre desde el lunes.
IT | name | Giancarlo Bellandi | Il sig. Giancarlo Bellandi riferisce dispnea da sforzo da alcune settimane.
IT | name | Ferraris | La dott.ssa Ferraris consiglia di sospendere il farmaco per una settimana.
IT | name | Ornella Trevisan | Buongiorno, mi chiamo Ornella Trevisan e soffro di emicrania.
BR | name | Joaquim Teixeira | O paciente Joaquim Teixeira relata febre e tosse seca.
BR | name | Beatriz Camargo | Atenciosamente,\nDra. Beatriz Camargo
BR | name | Luciana Prado | Oi, meu nome é Luciana Prado e queria saber se posso tomar dipirona.
JP | name | 高橋美咲 | 患者の高橋美咲さんは昨日から発熱があります。
JP | name | 渡辺健一 | 担当医は渡辺健一先生です。
JP | name | Kenji Watanabe | Mr. Kenji Watanabe brought his own chopsticks and ate well after surgery.
CN | name | 王建国 | 患者王建国先生主诉胸痛两天。
CN | name | 李秀英 | 我叫李秀英，最近总是头晕。
CN | name | Zhang Weiming | Ms. Zhang Weiming asked whether she may fly home after the stent.
IN | name | Rajesh Venkataraman | Shri Rajesh Venkataraman was started on insulin at the camp.
IN | name | Lakshmi Narayanan | Respected sir, myself Lakshmi Narayanan, I am having giddiness from last two weeks.
IN | name | सुनीता शर्मा | मेरा नाम सुनीता शर्मा है और मुझे मधुमेह है।
IN | name | Kavita Deshpande | Hello doctor, I am Kavita Deshpande aged 41, my report shows high TSH.
US | address | 4817 Cottonwood Lane | We still live at 4817 Cottonwood Lane, two blocks from the clinic.
US | address | Boise, ID 83702 | Mail the results to my brother in Boise, ID 83702 please.
US | address | PO Box 3391 | All correspondence goes to PO Box 3391 because the porch gets robbed.
US | address | 1204 N 11th St | ambulance called to 1204 n 11th st apt 3, pt found on kitchen floor
US | address | 60614 | zip code 60614, if that helps to find a pharmacy that has it in stock
GB | address | 27 Larkspur Close | The district nurse visits her at 27 Larkspur Close twice a week.
GB | address | M14 6HQ | Home is M14 6HQ, ground floor, steps at the front door.
GB | address | Flat 9, Beaumont Court | Flat 9, Beaumont Court is where the carers should leave the oxygen.
DE | address | Lindenstraße 48 | Bitte schicken Sie das Rezept in die Lindenstraße 48, dritter Stock.
DE | address | 50667 Köln | Er wohnt in 50667 Köln und kommt mit der Bahn.
DE | address | Am Mühlbach 7 | Wohnhaft: Am Mühlbach 7, 86150 Augsburg
FR | address | 18 rue des Lilas | Elle habite 18 rue des Lilas, au deuxième sans ascenseur.
FR | address | 69003 Lyon | Le kinésithérapeute se déplace chez lui, 69003 Lyon.
FR | address | 5 bis, avenue Victor Hugo | Le lit médicalisé doit être livré au 5 bis, avenue Victor Hugo.
ES | address | Calle de Alcalá, 112 | Vive en la Calle de Alcalá, 112, tercero izquierda.
ES | address | C/ Mayor 23 | domicilio: C/ Mayor 23, 2º B
ES | address | 41004 Sevilla | Remitir el informe a su casa, 41004 Sevilla.
IT | address | Via Garibaldi 31 | Abita in Via Garibaldi 31 con la figlia e due gatti.
IT | address | 20121 Milano | Spedire la cartella a casa sua, 20121 Milano.
BR | address | Rua das Acácias, 455 | Moro na Rua das Acácias, 455, perto do posto de saúde.
BR | address | 04538-133 | Meu CEP é 04538-133, podem entregar os remédios aqui?
JP | address | 〒150-0043 | お薬は〒150-0043の自宅に送ってください。
JP | address | 東京都世田谷区桜丘3-14-2 | 住まいは東京都世田谷区桜丘3-14-2です。
JP | address | 2-11-3 Meguro | The patient gave 2-11-3 Meguro, Meguro-ku, Tokyo as her home.
CN | address | 建国路88号 | 家住北京市朝阳区建国路88号3单元。
CN | address | No. 215 Zhongshan Road | Her parents stay at No. 215 Zhongshan Road in Nanjing.
IN | address | H.No. 8-2-120 | Patient resides at H.No. 8-2-120, Banjara Hills.
IN | address | Pune 411038 | We are from Kothrud, Pune 411038 and cannot travel far.
IN | address | Flat No. 304, Sai Residency | send the medicine to Flat No. 304, Sai Residency, near the temple
US | address | 41.8819, -87.6278 | The watch recorded the fall at 41.8819, -87.6278 just before noon.
US | date of birth | 09/17/1958 | DOB 09/17/1958, presents with chest tightness on exertion.
US | date of birth | February 11, 1973 | She was born February 11, 1973, the third of five children.
US | date of birth | 4-2-66 | birthdate: 4-2-66, smoker, two packs a day
GB | date of birth | 23rd of August 1949 | His date of birth is the 23rd of August 1949.
DE | date of birth | 14.03.1962 | geb. 14.03.1962, seit 2010 Diabetes mellitus Typ 2
DE | date of birth | 7. Mai 1981 | Die Patientin, geboren am 7. Mai 1981, raucht nicht.
FR | date of birth | 3 avril 1970 | Patiente née le 3 avril 1970, sans antécédent notable.
ES | date of birth | 12 de marzo de 1955 | Nacido el 12 de marzo de 1955 en un pueblo de la sierra.
IT | date of birth | 22/09/1947 | Paziente nato il 22/09/1947, ex fumatore.
BR | date of birth | 05/11/1988 | Data de nascimento: 05/11/1988. Nega alergias.
JP | date of birth | 1965年8月21日 | 生年月日は1965年8月21日です。
JP | date of birth | 昭和31年5月2日 | 昭和31年5月2日生まれの男性。
CN | date of birth | 1979年12月3日 | 出生日期：1979年12月3日，已婚。
IN | date of birth | 15-08-1990 | my d.o.b is 15-08-1990 and weight 62 kg
US | date of stay | March 3, 2019 | He was admitted on March 3, 2019 with pneumonia and needed oxygen.
US | date of stay | 06/21/2022 | Discharged home 06/21/2022 in stable condition.
US | date of stay | Oct 14, 2020 | The stent was placed on Oct 14, 2020 without complications.
US | date of stay | 11/02/2021 | Date of service: 11/02/2021. Chief complaint: dizziness.
GB | date of stay | 19 January 2018 | On 19 January 2018 she underwent a left hip replacement.
DE | date of stay | 02.02.2023 | Stationäre Aufnahme am 02.02.2023 wegen Luftnot.
DE | date of stay | 12.09.2021 | Der Patient wurde am 12.09.2021 entlassen.
FR | date of stay | 8 juin 2021 | Elle a été hospitalisée le 8 juin 2021 pour une embolie.
ES | date of stay | 4 de julio de 2020 | Ingresó el 4 de julio de 2020 por neumonía bilateral.
IT | date of stay | 15 ottobre 2019 | È stato dimesso il 15 ottobre 2019 con terapia domiciliare.
BR | date of stay | 27/01/2022 | Foi internada em 27/01/2022 com dengue.
JP | date of stay | 2020年4月9日 | 2020年4月9日に入院し、翌週退院した。
CN | date of stay | 2021年3月18日 | 患者于2021年3月18日入院治疗。
IN | date of stay | 22.06.2019 | operated on 22.06.2019 for gall bladder stone, still pain is there
US | date of stay | April 30, 2021 | She passed away on April 30, 2021, surrounded by family.
US | age over 89 | 93-year-old | A 93-year-old retired teacher fell in her garden.
US | age over 89 | aged 97 | The donor's mother, aged 97, still drives.
US | age over 89 | 101 y/o | 101 y/o female brought in from nursing home, confused since morning
GB | age over 89 | 94 years old | My gran is 94 years old and her ankles swell every evening.
GB | age over 89 | ninety-two-year-old | We looked after a ninety-two-year-old man with a broken wrist.
DE | age over 89 | 91-jährige | Die 91-jährige Patientin stürzte beim Einkaufen.
FR | age over 89 | 95 ans | Mon grand-père a 95 ans et refuse de manger.
ES | age over 89 | 98 años | Mujer de 98 años con demencia avanzada.
IT | age over 89 | 92 anni | Il nonno, 92 anni, cade spesso di notte.
BR | age over 89 | 90 anos | Minha avó tem 90 anos e toma losartana.
JP | age over 89 | 96歳 | 96歳の女性が転倒した。
CN | age over 89 | 93岁 | 我奶奶今年93岁，血压很高。
US | telephone | 312-555-0186 | You can get me at 312-555-0186 until five.
US | telephone | (206) 555 0143 | cell: (206) 555 0143, leave a message with my son
US | telephone | 5035550117 | phone 5035550117 in case the lab calls
US | telephone | +1 646 555 0190 | The daughter in New York, +1 646 555 0190, has power of attorney.
US | telephone | 719.555.0128 | FAX the records to 719.555.0128 attention billing.
GB | telephone | 07911 123456 | Her mobile is 07911 123456 but she rarely hears it.
GB | telephone | 0161 496 0247 | Family can be reached on 0161 496 0247 at weekends.
GB | telephone | +447700900461 | text +447700900461 when the bed is free
DE | telephone | 0171 5550142 | Sie erreichen mich unter 0171 5550142 am besten abends.
DE | telephone | 030/90182047 | Tel.: 030/90182047, bitte lange klingeln lassen.
DE | telephone | +49 221 4710-3892 | Rückfragen bitte an +49 221 4710-3892.
FR | telephone | 06 39 98 41 27 | Vous pouvez me joindre au 06 39 98 41 27 après 18 heures.
FR | telephone | 01.53.00.81.46 | Le fils (01.53.00.81.46) passe chaque dimanche.
FR | telephone | +33 6 39 98 12 05 | Mon portable : +33 6 39 98 12 05
ES | telephone | 612 345 678 | Llámeme al 612 345 678 cuando tenga los análisis.
ES | telephone | 91 123 45 67 | teléfono fijo 91 123 45 67, preguntar por la hija
IT | telephone | 347 1234567 | Il mio cellulare è 347 1234567, sono a casa la sera.
IT | telephone | 06 5550 1823 | Chiamare lo 06 5550 1823 e chiedere della signora.
BR | telephone | (11) 98765-4321 | Me liga no (11) 98765-4321 quando sair o exame.
BR | telephone | 21 3555-0147 | Telefone fixo da filha: 21 3555-0147.
JP | telephone | 090-1234-5678 | 携帯は090-1234-5678です。
JP | telephone | 03-5550-1298 | Her office line in Tokyo is 03-5550-1298.
CN | telephone | 13812345678 | 我的手机号是13812345678，微信同号。
CN | telephone | 010-65550182 | 家里电话010-65550182，晚上有人。
IN | telephone | 98200 55512 | My whatsapp is 98200 55512, kindly send the diet chart.
IN | telephone | 022-25550134 | landline 022-25550134 (residence)
IN | telephone | +91-9930055517 | contact my husband +91-9930055517 for payment
US | e-mail | t.kowalczyk77@gmail.com | Send the imaging to t.kowalczyk77@gmail.com and copy my sister.
GB | e-mail | margaret_dunne@btinternet.co.uk | margaret_dunne@btinternet.co.uk is the only address she checks
DE | e-mail | heiko.brandt (at) web.de | Meine Adresse lautet heiko.brandt (at) web.de, danke!
FR | e-mail | lucie.marchand@orange.fr | Écrivez à lucie.marchand@orange.fr si besoin.
BR | e-mail | joana.ribeiro@uol.com.br | meu email joana.ribeiro@uol.com.br
CN | e-mail | zhou_lei1985@163.com | 请发到zhou_lei1985@163.com，谢谢。
IN | e-mail | anil dot mehta at rediffmail dot com | mail id: anil dot mehta at rediffmail dot com
US | record number | 536-90-4399 | The form asks for my social: 536-90-4399.
US | record number | 612 44 8719 | SSN 612 44 8719 was printed on the bracelet
US | record number | 1EG4-TE5-MK72 | His Medicare card reads 1EG4-TE5-MK72 and expires never.
US | record number | 00731846 | MRN: 00731846, bed 14B, telemetry on.
US | record number | A-20447 | Chart # A-20447 is missing from the rack.
US | record number | XJB904417732 | My insurance ID is XJB904417732 and the plan is silver.
US | record number | 8830917264 | bill it to account number 8830917264, checking
US | record number | RX 7719204 | The bottle says RX 7719204, filled twice.
US | record number | 4079 2466 0194 0569 | I paid the copay with 4079 2466 0194 0569 over the phone.
US | record number | 371414087990903 | amex 371414087990903 was declined at the desk
GB | record number | 318 305 0692 | NHS no 318 305 0692, consented for theatre.
GB | record number | 9862100052 | Her NHS number (9862100052) was read out twice.
GB | record number | QQ123456C | My NI number is QQ123456C if the benefits office asks.
GB | record number | H/2021/00453 | Hospital no. H/2021/00453, notes requested from archive.
GB | record number | GB29 NWBK 6016 1331 9268 19 | refund to GB29 NWBK 6016 1331 9268 19 please
GB | record number | 533401282 | passport 533401282 was handed to the research nurse
DE | record number | 86 213 047 396 | Meine Steuer-ID lautet 86 213 047 396.
DE | record number | K983748580 | Versichertennummer K983748580 bei der AOK
DE | record number | 65 170839 J 003 | Rentenversicherungsnummer: 65 170839 J 003
DE | record number | 4711/08-15 | Fallnummer 4711/08-15, Station 3B
DE | record number | DE89 3704 0044 0532 0130 00 | Die Zuzahlung geht von DE89 3704 0044 0532 0130 00 ab.
FR | record number | 2 68 03 94 494 271 243 | Son numéro de sécurité sociale est 2 68 03 94 494 271 243.
FR | record number | 278010149167562 | NIR 278010149167562, ALD en cours
FR | record number | 8004417392 | IPP 8004417392, service de cardiologie
ES | record number | 97348455N | Mi DNI es 97348455N y vengo por una revisión.
ES | record number | 53.081.571-D | con documento 53.081.571-D, alérgico a la penicilina
ES | record number | Y7182724E | NIE: Y7182724E, residente desde hace poco
ES | record number | 448120 | Nº de historia clínica 448120, traumatología
IT | record number | RSSMRA85T10A562S | Codice fiscale RSSMRA85T10A562S, esenzione per patologia.
IT | record number | bnc gli 62d54 f205t | il mio codice e' bnc gli 62d54 f205t
IT | record number | 2019/11834 | Cartella clinica n. 2019/11834, reparto di medicina
BR | record number | 929.081.003-39 | CPF 929.081.003-39, atendida pela equipe da manhã.
BR | record number | 94434379020 | o cpf dele é 94434379020
BR | record number | 754 9050 8349 9938 | Cartão SUS 754 9050 8349 9938, gestante
BR | record number | 28.447.190-3 | Acompanhante apresentou RG 28.447.190-3.
JP | record number | 0810 7997 5338 | マイナンバーは0810 7997 5338です。
JP | record number | 00482915 | 患者番号：00482915、内科
CN | record number | 310101197907053925 | 身份证号310101197907053925，复诊。
CN | record number | 110105199511179326 | He wrote 110105199511179326 on the consent form.
CN | record number | 2021034478 | 住院号：2021034478，三病区
IN | record number | 6489 1789 5644 | Aadhaar no. 6489 1789 5644 linked with hospital file
IN | record number | 381010328303 | attached aadhar 381010328303 for ayushman card
IN | record number | BKTPD4417M | PAN BKTPD4417M for the insurance claim
IN | record number | 91-4471-2093-8856 | ABHA number 91-4471-2093-8856
IN | record number | SGH/OP/22/10934 | OP No: SGH/OP/22/10934, came for follow up
US | licence number | BS4160622 | Script signed under DEA BS4160622 for thirty tablets.
US | licence number | 1646460513 | The NPI on the claim, 1646460513, belongs to the covering physician.
US | licence number | D482-9931-0047 | driver's license D482-9931-0047, class C, needs glasses
US | licence number | A104482 | Her California medical license A104482 lapsed last spring.
GB | licence number | 7048213 | GMC 7048213, locum for the week
DE | licence number | 447120901 | LANR 447120901 steht auf dem Rezept.
FR | licence number | 10003417728 | Prescripteur RPPS 10003417728
ES | licence number | 282871044 | Médico colegiado nº 282871044, firma ilegible
BR | licence number | CRM-SP 104882 | Assinado digitalmente, CRM-SP 104882
CN | licence number | 110440000012345 | 执业医师证书编号110440000012345
IN | licence number | MH12 20110048271 | DL No. MH12 20110048271 submitted as age proof
US | vehicle | 7KLM294 | He fainted at the wheel; license plate 7KLM294, no other car involved.
US | vehicle | 1HGCM82690A004352 | The insurer wants the VIN, 1HGCM82690A004352, before paying for physio.
GB | vehicle | LB19 XTR | hit by a van, registration LB19 XTR, while cycling
DE | vehicle | K-AB 1234 | Unfallwagen mit Kennzeichen K-AB 1234
FR | vehicle | FT-482-KL | Son véhicule immatriculé FT-482-KL a été percuté.
ES | vehicle | 4821 KHL | matrícula 4821 KHL, accidente de tráfico
IT | vehicle | FX 482 LM | investito da auto targata FX 482 LM
BR | vehicle | BRA2E19 | moto placa BRA2E19, trauma de face
JP | vehicle | 品川 300 あ 12-34 | 車のナンバーは品川 300 あ 12-34でした。
CN | vehicle | 京A12345 | 车牌号京A12345，追尾后颈部疼痛。
IN | vehicle | MH 14 BT 4471 | bike no MH 14 BT 4471 slipped near the toll naka
US | device | PJN847392H | Pacemaker, serial number PJN847392H, checked and working.
US | device | (01)00844588003288 | UDI (01)00844588003288(17)260131(10)A213B1(21)1234 was scanned in theatre.
US | device | 358628664115694 | her insulin pump phone has IMEI 358628664115694
US | device | SN 4402-118-77 | CPAP machine, SN 4402-118-77, humidifier broken
DE | device | 48-22917-K | Hüftprothese, Seriennummer 48-22917-K, links
FR | device | FR20419984 | stimulateur, numéro de série FR20419984
JP | device | KX-20938471 | ペースメーカーの製造番号はKX-20938471です。
CN | device | SH20481193 | 支架序列号SH20481193
US | user link | facebook.com/rhonda.teller.9 | more photos on facebook.com/rhonda.teller.9
GB | user link | @gaz_the_plumber | my insta is @gaz_the_plumber if you want to see the rash
US | user link | https://portal.stlukes.example/patients/88213 | Labs are at https://portal.stlukes.example/patients/88213 since Monday.
CN | user link | wxid_lele2014 | 加我微信：wxid_lele2014
US | user link | linda-beats-ms.blogspot.com | I write about it on linda-beats-ms.blogspot.com every week.
US | machine address | 203.0.113.77 | The symptom form was sent from 203.0.113.77 late at night.
US | machine address | 2001:db8:85a3::8a2e:370:7334 | logged in from 2001:db8:85a3::8a2e:370:7334 with the old password
US | machine address | 3C:22:FB:9A:01:7E | The glucose meter's MAC is 3C:22:FB:9A:01:7E.
US | biometric | FP-88231-R | Right thumb, fingerprint ID FP-88231-R, enrolled at the desk.
US | biometric | VP-5519043 | voiceprint VP-5519043 on file with the call centre
US | photo | IMG_4471_jenny_face.jpg | I attached IMG_4471_jenny_face.jpg so that you can see the droop.
US | photo | https://imgur.com/a/Kq82xZ | Here is a picture of me: https://imgur.com/a/Kq82xZ
US | record number | CLM-2209-44817 | The insurer closed claim number CLM-2209-44817 without a reason.
US | record number | S21-04417 | Biopsy accession S21-04417 showed clear margins.
GB | record number | 12-34-56 | sort code 12-34-56, account 40713922
"""
UNSEEN = r"""
US | name | Cynthia Marlow | Dr. Cynthia Marlow will call with the biopsy results.
US | name | Robert Ellison | Mr. Robert Ellison, 54, reports worsening dyspnea.
US | name | Anne Whitcombe | Mrs Anne Whitcombe asked for a refill of lisinopril.
US | name | Alan Tremblay | Prof Alan Tremblay reviewed the slides.
US | name | SMITHERS, WALTER | PATIENT: SMITHERS, WALTER
US | name | Jonas Lindqvist | The transplant coordinator Jonas Lindqvist phoned at noon.
US | name | Patrice Holloway | Signed, Patrice Holloway RN
US | name | Ms. Tran | Ms. Tran cannot swallow tablets.
US | name | Eleanor Vance | daughter Eleanor Vance holds power of attorney
US | name | DOE, JANE | NAME: DOE, JANE A.  SEX: F  UNIT: 4 WEST
US | name | Bob Ferrante | Pt is Bob Ferrante, well known to this clinic.
US | name | Hendricks | Spoke with Nurse Hendricks about the drain.
US | name | Whitfield | Attending: Whitfield, M.
US | name | Liam | Baby Liam was born at 39 weeks.
GB | name | Tomlinson | Thank you for referring Mrs Tomlinson to the fracture clinic.
GB | name | Gwendolyn Price | Re: Gwendolyn Price
DE | name | Klaus-Dieter Hoffmann | Sehr geehrter Herr Klaus-Dieter Hoffmann, anbei der Befund.
DE | name | Schreiber | Patientin Schreiber wurde mobilisiert.
DE | name | Uhlmann | Sehr geehrte Frau Dr. Uhlmann,
FR | name | Delphine Arnoult | Chère Madame Delphine Arnoult, voici vos résultats.
FR | name | Lefèvre | M. Lefèvre est sorti contre avis médical.
FR | name | Roussel | Signé : Dr Roussel
ES | name | Ana Belén Crespo | A la atención de Ana Belén Crespo
ES | name | Quintana | Don Ernesto Quintana rechaza la transfusión.
IT | name | Caterina Fabbri | Gentile signora Caterina Fabbri, le scrivo per l'esito.
IT | name | De Santis | Il prof. De Santis opera domani.
BR | name | Marcos Vinícius Tavares | O Sr. Marcos Vinícius Tavares sente tontura.
BR | name | Rosângela | Minha mãe Rosângela está com falta de ar.
JP | name | 山口翔太 | 氏名：山口翔太 年齢：45歳
JP | name | Yuki Tanaka | Yuki Tanaka signed the consent form in Japanese.
CN | name | 陈丽华 | 陈丽华女士，高血压十年。
CN | name | Li Xiaoming | Mr Li Xiaoming speaks only Mandarin.
IN | name | Sunil Gavaskar Rao | This is Sunil Gavaskar Rao from Mysore, sir.
IN | name | Meenakshi | I am Meenakshi, 28 yrs, married since 2 years.
US | age over 89 | 104 | Our oldest volunteer is 104 years old.
US | age over 89 | 96 yo | 96 yo M w/ CHF
US | age over 89 | age 91 | He died at home at age 91 after a short illness.
US | age over 89 | 95-yr-old | 95-yr-old veteran, hard of hearing
US | age over 89 | 99 | Age: 99
DE | age over 89 | 94 Jahre | Meine Oma ist 94 Jahre alt.
FR | age over 89 | 102 ans | Une patiente de 102 ans opérée de la cataracte.
IN | age over 89 | 93 years | Grandfather aged about 93 years is not passing urine.
US | date of stay | 2/14/2020 | Admission date: 2/14/2020
US | date of stay | July 8, 2018 | Surgery took place July 8, 2018.
US | date of stay | 2019-11-23 | seen in ED 2019-11-23 for laceration
US | date of stay | 12 Mar 2021 | Last visit 12 Mar 2021
US | date of stay | May 3 to May 9, 2022 | Inpatient from May 3 to May 9, 2022.
GB | date of stay | 05/06/2019 | discharged from Ward 7 on 05/06/2019
FR | date of stay | 14/02/2021 | Date d'entrée : 14/02/2021
ES | date of stay | 23-11-2020 | Fecha de alta: 23-11-2020
BR | date of stay | 03/08/2021 | Data da internação: 03/08/2021
CN | date of stay | 2022-05-06 | 入院日期：2022-05-06
US | telephone | 555-0123 | my home phone is 555-0123
US | telephone | 1 (718) 555-0109 | reachable on 1 (718) 555-0109
US | telephone | 202.555.0171 ext. 44 | work 202.555.0171 ext. 44
US | telephone | (305)555-0188 | Fax #: (305)555-0188
FR | telephone | 0612345678 | Tél : 0612345678
FR | telephone | +33612345678 | sms au +33612345678
BR | telephone | +55 11 91234-5678 | WhatsApp +55 11 91234-5678
BR | telephone | (21)99876-5432 | zap: (21)99876-5432
JP | telephone | +81-90-1234-5678 | call +81-90-1234-5678
JP | telephone | 06-6555-0143 | 大阪の番号は06-6555-0143です
CN | telephone | +86 139 1234 5678 | reach her at +86 139 1234 5678
CN | telephone | 021-6555 0188 | 上海座机021-6555 0188
IN | telephone | 09876543210 | ph 09876543210
IN | telephone | +919876543210 | My no. +919876543210
DE | telephone | 0049 89 5550147 | Mobil aus dem Ausland: 0049 89 5550147
DE | telephone | 089 / 555 01 47 | Praxis zu Hause: 089 / 555 01 47
DE | telephone | 01520 1234567 | handy 01520 1234567
ES | telephone | +34 655 12 34 56 | mi madre: +34 655 12 34 56
IT | telephone | +39 02 5550 1234 | ufficio +39 02 5550 1234
GB | telephone | (01632) 960 123 | home (01632) 960 123
GB | telephone | 020 7946 0321 | She works on 020 7946 0321.
BR | record number | 288.231.348-97 | titular 288.231.348-97
BR | record number | 95695071607 | CPF: 95695071607
ES | record number | 01253926-N | D.N.I. 01253926-N
ES | record number | 90264326k | dni 90264326k
FR | record number | 1 06 04 14 688 217 19 | NSS 1 06 04 14 688 217 19
FR | record number | 235093856705031 | sa carte vitale porte 235093856705031
IT | record number | BNCGLI62D54F205T | BNCGLI62D54F205T
DE | record number | T834511358 | gesetzlich versichert, T834511358
GB | record number | AB123456C | nino: AB123456C
CN | record number | 310101194109033803 | 身份证 310101194109033803
JP | record number | 7045 4192 8194 | 個人番号 7045 4192 8194
IN | record number | 9273 7016 8861 | UID 9273 7016 8861
US | record number | 219-09-9998 | Social Security Number: 219-09-9998
US | record number | MR-0045512 | Record MR-0045512 was reopened.
US | record number | 7719-220 | Hospital ID 7719-220
US | record number | 123456 | med rec # 123456
US | record number | 40021873 | patient #40021873
US | record number | W882291733 | Aetna member W882291733
US | record number | 021000021 | routing 021000021
US | licence number | AM0149105 | prescriber DEA no. AM0149105
US | licence number | FJ7355894 | The pharmacy rejected FJ7355894 as expired.
US | licence number | 1910989015 | Provider NPI: 1910989015
US | licence number | MD-448291 | Lic. No. MD-448291
US | licence number | S530-4609-1188 | Florida driver license S530-4609-1188
US | machine address | fe80::1ff:fe23:4567:890a | device joined from fe80::1ff:fe23:4567:890a
US | machine address | 2001:0db8:0000:0000:0000:ff00:0042:8329 | IPv6 2001:0db8:0000:0000:0000:ff00:0042:8329
US | machine address | 198.51.100.23 | IP: 198.51.100.23
US | device | 2201948 | S/N: 2201948
US | device | LVX-00219-B | implanted valve serial LVX-00219-B
US | device | 00643169007222 | UDI-DI 00643169007222
US | device | 354522373410666 | IMEI: 354522373410666
US | device | ICD-4471-9920 | her defibrillator (serial # ICD-4471-9920) fired twice
US | vehicle | 8XYZ123 | California plate 8XYZ123
US | vehicle | JM1BL1V51C1612345 | VIN JM1BL1V51C1612345
US | vehicle | ABC-1234 | the car, tag ABC-1234, was towed
GB | vehicle | BD51 SMR | number plate BD51 SMR
FR | vehicle | AA-229-AB | plaque AA-229-AB
DE | vehicle | M-XY 4821 | Kfz-Kennzeichen: M-XY 4821
BR | vehicle | KJL-4821 | placa: KJL-4821
IN | vehicle | KA05MN4821 | vehicle no. KA05MN4821
US | e-mail | pat.morrow@comcast.net | Email address: pat.morrow@comcast.net
US | e-mail | k_oduya [at] protonmail.com | k_oduya [at] protonmail.com
US | user link | instagram.com/katie.runs.26 | Follow instagram.com/katie.runs.26 for my recovery
US | user link | @drew_t1d | twitter: @drew_t1d
US | user link | https://www.patientslikeme.example/members/44812/profile | profile https://www.patientslikeme.example/members/44812/profile
US | address | 88 Harbor View Dr | 88 Harbor View Dr, Apt 2C
US | address | Tulsa, OK 74103 | She was transferred from Tulsa, OK 74103.
US | address | 90210-4817 | ZIP: 90210-4817
GB | address | EH8 9YL | Edinburgh EH8 9YL
GB | address | 14 St Mary's Road | 14 St Mary's Road, Oxford
DE | address | Goethestr. 12 | Goethestr. 12, 60313 Frankfurt
FR | address | 24 boulevard Saint-Michel | 24 boulevard Saint-Michel, 75006 Paris
ES | address | Avenida de la Constitución 14 | Avenida de la Constitución 14, Granada
IT | address | Piazza del Duomo, 4 | Piazza del Duomo, 4 - Firenze
BR | address | Av. Brigadeiro Faria Lima, 3477 | Av. Brigadeiro Faria Lima, 3477 - São Paulo
JP | address | 大阪府大阪市北区梅田1-2-3 | 大阪府大阪市北区梅田1-2-3
CN | address | 人民南路120号 | 成都市人民南路120号
IN | address | 560034 | Koramangala, Bengaluru - 560034
US | date of birth | 1961-07-30 | born 1961-07-30
US | date of birth | 6/1/55 | D.O.B.: 6/1/55
US | date of birth | May 5, 1944 | Birth date May 5, 1944
FR | date of birth | 17/08/1952 | né le 17/08/1952
US | biometric | 7f3a9c22e1 | iris scan template 7f3a9c22e1
US | photo | face_front_2021.png | see face_front_2021.png
"""
UNSEEN_TOO = r"""
US | name | Dr. Priya Raman | After that, Dr. Priya Raman adjusted my insulin.
US | name | Mr. Oduya | Mr. Oduya's potassium is back to normal.
US | name | Prof. Ingrid Solheim | We thank Prof. Ingrid Solheim for the slides.
US | name | WILKES, DARNELL T | PATIENT: WILKES, DARNELL T
US | name | Harper Quinlan | Contact person: Harper Quinlan
US | name | Tobias Renner | The sample from Tobias Renner was lost in transit.
US | name | Dr Achebe | per Dr Achebe, hold the metoprolol
US | name | Mrs. O'Shaughnessy | Mrs. O'Shaughnessy fell again last night.
US | name | Kevin | My husband Kevin snores so loudly that I sleep in the den.
US | name | Dolores Huerta-Medina | Interpreter for Dolores Huerta-Medina arrived late.
US | name | J. Whitmore | Reviewed by J. Whitmore, PharmD
US | name | Dr. Van der Berg | Dr. Van der Berg is on call.
GB | name | Lady Arabella Fortescue | Lady Arabella Fortescue declined physiotherapy.
DE | name | Prof. Dr. Matthias Ebner | Operateur: Prof. Dr. Matthias Ebner
FR | name | Mlle Camille Besson | Mlle Camille Besson est enceinte de huit mois.
ES | name | señora Montserrat Vidal | La señora Montserrat Vidal vive sola.
IT | name | Sig.ra Lucia Marchetti | Sig.ra Lucia Marchetti, ricoverata ieri.
BR | name | Dr. Henrique Bastos | O Dr. Henrique Bastos indicou cirurgia.
JP | name | 佐々木様 | 佐々木様、検査結果をお送りします。
CN | name | 刘志强 | 病人刘志强，男，62岁。
CN | name | 张医生 | 张医生建议我做胃镜。
IN | name | Smt. Radha Krishnan | Smt. Radha Krishnan complains of knee pain.
US | age over 89 | 97-year-old | Is surgery safe for a 97-year-old woman?
US | age over 89 | 90 years old | She is 90 years old and lives alone.
US | age over 89 | 103 | My great-grandfather, who is 103, still walks daily.
GB | age over 89 | 92 | He's 92 and his balance is going.
ES | age over 89 | 91 años | Paciente varón de 91 años con fractura de cadera.
US | date of stay | 04/12/2021 | Admitted 04/12/2021, discharged 04/19/2021.
US | date of stay | September 9, 2020 | She was hospitalized from September 9, 2020 for six days.
GB | date of stay | 3rd June 2022 | Reviewed in clinic on 3rd June 2022.
DE | date of stay | 15. Januar 2020 | Die Operation erfolgte am 15. Januar 2020.
FR | date of stay | 12/05/2022 au 20/05/2022 | Séjour du 12/05/2022 au 20/05/2022
US | telephone | 415-555-0134 | Text 415-555-0134 to reschedule.
US | telephone | 6175550199 | cell 6175550199
FR | telephone | 01 42 34 56 78 | Appelez le 01 42 34 56 78 pour un rendez-vous.
FR | telephone | 07.61.23.45.67 | 07.61.23.45.67 (sa fille)
BR | telephone | 11 98888-7777 | Contato: 11 98888-7777
BR | telephone | (31) 3222-1234 | O número dela é (31) 3222-1234.
JP | telephone | 080-1234-5678 | 080-1234-5678までご連絡ください。
JP | telephone | +81 3-1234-5678 | Tokyo office: +81 3-1234-5678
CN | telephone | 138-1234-5678 | 请联系138-1234-5678
CN | telephone | +86 10 8888 6666 | +86 10 8888 6666 (home)
IN | telephone | 9812345678 | my number 9812345678 please call
IN | telephone | 098123 45678 | Mob: 098123 45678
DE | telephone | 030 12345678 | Sie wohnt in Berlin, 030 12345678.
DE | telephone | 0176-12345678 | Meine Nummer ist 0176-12345678.
IT | telephone | 333 123 4567 | Mi chiami al 333 123 4567.
ES | telephone | 699 12 34 56 | 699 12 34 56 es mi móvil
GB | telephone | 07700 900 982 | 07700 900 982 is her carer's number
BR | record number | 529.982.247-25 | CPF do paciente: 529.982.247-25
BR | record number | 52998224725 | cadastro 52998224725
ES | record number | 12345678Z | El paciente con DNI 12345678Z fue dado de alta.
ES | record number | X1234567L | portadora del NIE X1234567L
FR | record number | 1 85 05 78 006 084 91 | N° de sécu : 1 85 05 78 006 084 91
US | record number | 123-45-6789 | SSN: 123-45-6789
US | record number | 943 476 5919 | patient NHS 943 476 5919
US | record number | MRN-558102 | See MRN-558102 for prior imaging.
US | record number | A1234567 | Medical record A1234567
US | record number | 4485-1198-22 | Health plan beneficiary number 4485-1198-22
US | record number | 000123456789 | Acct # 000123456789
US | licence number | AB1234563 | DEA number AB1234563
US | licence number | 1234567893 | NPI 1234567893
US | licence number | RN 482913 | Nursing license RN 482913
US | licence number | F255-9215-0094 | Driver's license number F255-9215-0094
US | machine address | 2001:db8::ff00:42:8329 | The portal logged 2001:db8::ff00:42:8329 at 3 am.
US | device | SN-8841-22-K | Serial no. SN-8841-22-K of the infusion pump
US | device | (01)08717648200274(17)251231(10)ABC123 | UDI: (01)08717648200274(17)251231(10)ABC123
US | device | BGM-20417793 | Glucose meter ID BGM-20417793
US | vehicle | 4T1BF1FK5HU123456 | VIN: 4T1BF1FK5HU123456
US | vehicle | GHT 482 | The driver's plate was GHT 482.
GB | vehicle | AB12 CDE | His car (AB12 CDE) is in bay 4.
US | address | 1247 Willow Creek Road | He lives at 1247 Willow Creek Road, Austin, TX 78701.
US | address | apt 5B | 310 w 22nd street apt 5B, ny
GB | address | 10 Downing Street | 10 Downing Street, London SW1A 2AA
US | user link | linkedin.com/in/maria-lopez-rn | linkedin.com/in/maria-lopez-rn
US | e-mail | jdoe1952@aol.com | Reply to jdoe1952@aol.com.
US | date of birth | 3/14/1952 | DOB: 3/14/1952
US | biometric | FP-0098812 | Fingerprint record FP-0098812
US | photo | photo_jsmith.jpg | Attached: photo_jsmith.jpg
US | record number | K00123456 | Passport number: K00123456
US | record number | GRP-00912 | Group number GRP-00912
CN | record number | 11010519491231002X | 身份证：11010519491231002X
IN | record number | ABCPE1234F | PAN card ABCPE1234F
IN | record number | 2234 5678 9012 | aadhaar no is 2234 5678 9012
IT | record number | RSSMRA80A01H501U | CF RSSMRA80A01H501U
JP | record number | 1234 5678 9018 | マイナンバー 1234 5678 9018
DE | record number | A123456780 | Versichertennr. A123456780
"""
UNSEEN_LAST = r"""
US | name | Dr. Samuel Okonkwo | My cardiologist is Dr. Samuel Okonkwo.
US | name | Mr. Petrosyan | Mr. Petrosyan was given 5 mg of morphine at midnight.
US | name | HOLLOWAY, DEREK | PATIENT: HOLLOWAY, DEREK. DISCHARGED.
US | name | Mrs. Edith Crane | The chart of Mrs. Edith Crane was misplaced.
US | name | Prof. Nakagawa | Prof. Nakagawa proposed a second biopsy.
US | name | Jamal Whitaker | Jamal Whitaker complained of ringing ears.
US | name | Kristen Boyle | Please contact Kristen Boyle regarding the bill.
US | name | Ms. Ada Brightwater | Ms. Ada Brightwater, a retired pilot, has glaucoma.
US | name | Rosalind Achterberg | Author of this note: Rosalind Achterberg, RN
US | name | Tommy | our son Tommy swallowed a coin
GB | name | Mr Singh | Mr Singh will be reviewed in six weeks.
DE | name | Dr. Brinkmann | Laut Dr. Brinkmann ist der Befund unauffällig.
FR | name | Mme Sylvie Garnier | Mme Sylvie Garnier présente une toux sèche.
ES | name | Dra. Lucía Herrero | La Dra. Lucía Herrero recomienda reposo.
IT | name | Paolo Venturini | Il paziente Paolo Venturini è stato operato.
BR | name | Sra. Conceição | A Sra. Conceição precisa de repouso.
JP | name | 中村健太 | 中村健太様の検査結果です。
CN | name | 赵敏 | 患者赵敏，女，34岁。
IN | name | Arvind Swaminathan | Mr. Arvind Swaminathan has been fasting since morning.
US | age over 89 | 91-year-old | The patient is a 91-year-old man with atrial fibrillation.
US | age over 89 | 98 years | She lived to 98 years of age and never smoked.
US | age over 89 | aged 95 | Our neighbour, aged 95, broke her hip.
US | date of stay | 03/15/2021 | He was discharged on 03/15/2021.
US | date of stay | January 12, 2022 | She was admitted to the ICU on January 12, 2022.
US | telephone | (917) 555-0155 | Emergency contact: (917) 555-0155
US | telephone | 646.555.0111 | 646.555.0111 is my daughter's cell
FR | telephone | 06 12 34 56 78 | Mon téléphone est le 06 12 34 56 78.
BR | telephone | (11) 91234-5678 | Meu celular é (11) 91234-5678.
JP | telephone | 03-1234-5678 | 03-1234-5678にお電話ください。
CN | telephone | 13912345678 | 电话：13912345678
IN | telephone | +91 98765 43210 | Call +91 98765 43210 after 6 pm.
IN | telephone | 080-25551234 | clinic landline 080-25551234
DE | telephone | 030 1234567 | Rufen Sie 030 1234567 an.
DE | telephone | +49 151 23456789 | Mobil: +49 151 23456789
GB | telephone | 07700 900123 | You can text me on 07700 900123.
BR | record number | 111.444.777-35 | O CPF 111.444.777-35 consta no cadastro.
ES | record number | 00000000T | Su DNI es 00000000T.
FR | record number | 1 84 12 76 451 089 46 | Numéro NIR 1 84 12 76 451 089 46
US | record number | 123456789 | MRN #123456789
US | record number | 00-4471-22 | His record number is 00-4471-22.
US | record number | H123-456 | Account: H123-456
US | record number | XYZ123456789 | Blue Cross ID XYZ123456789
US | licence number | BB1388568 | DEA: BB1388568
US | licence number | 1245319599 | NPI number is 1245319599
US | licence number | CA-D1234567 | driver's license CA-D1234567
US | licence number | 25MA08812300 | NJ medical license 25MA08812300
US | machine address | 2001:4860:4860::8888 | The request came from 2001:4860:4860::8888.
US | device | 4F5G-7789-KL | Device serial 4F5G-7789-KL
US | device | 00801741016370 | UDI number 00801741016370
US | device | SJM123456 | His pacemaker's serial number is SJM123456.
US | vehicle | 6TRJ244 | His license plate is 6TRJ244.
US | vehicle | 1FTFW1ET5DFC10312 | the VIN was 1FTFW1ET5DFC10312
US | vehicle | NYC 4821 | registered plate NYC 4821
US | address | 742 Evergreen Terrace | She lives at 742 Evergreen Terrace, Springfield.
US | address | 02139 | Cambridge, MA 02139
DE | address | Bahnhofstraße 5 | Bahnhofstraße 5, 10115 Berlin
FR | address | 12 rue de la Paix | J'habite 12 rue de la Paix, Paris.
IN | address | 221, MG Road | 221, MG Road, Bangalore 560001
US | e-mail | o.petrenko@example.org | o.petrenko@example.org
US | user link | https://www.facebook.com/maria.lopez.771 | https://www.facebook.com/maria.lopez.771
US | date of birth | 12/05/1947 | Date of birth: 12/05/1947
US | biometric | BIO-7781-XK | Biometric ID: BIO-7781-XK
US | photo | face.jpg | Full face photo: face.jpg
US | record number | 987654321 | passport no 987654321
GB | record number | 485 777 3456 | NHS: 485 777 3456
US | record number | 078-05-1120 | ssn 078-05-1120
"""


def planted() -> list[tuple[str, str, str, str]]:
    """Country, kind, the words that must be found, and the sentence they stand in."""
    lines = [line for line in (PLANTED + UNSEEN + UNSEEN_TOO + UNSEEN_LAST).splitlines() if line]
    found = []
    for line in lines:
        country, kind, words, sentence = (part.strip(" ") for part in line.split(" | ", 3))
        found.append((country, kind, words, sentence.replace("\\n", "\n")))
    return found
