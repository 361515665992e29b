"""What stands before a number and says whose it is: labels of ten countries, in lower case.

A strong label names such a number and nothing else; a weak one (`chart`, `policy`) needs a `no.`, an `id` or a colon behind it.
`_` is a blank.
"""

from __future__ import annotations

STRONG = {
    "record number": """
    mrn uhid nhi urn med_rec medrec medical_record medical_record_number patient_id patient_number hospital_id
    hospital_number health_record hospital_record patient_record health_card health_plan ssn social_security my_social
    social_insurance nhs_number nhs national_insurance ni_number ni_no nino national_id tax_id itin sin medicare
    medicare_card medicaid mbi passport ration_card beneficiary subscriber_id member_id insurance_id insurance_card
    insurance_number policy_number account_number acct sort_code routing routing_number iban claim_number case_number
    encounter_number csn fin accession accession_number specimen_id sample_id prescription_number card_number
    group_number registration_number voter_id epic_no identity_card identity_number aadhaar aadhar adhaar adhar uidai
    abha abha_number pan_card pan_no pan_number crn chi_number steuer-id steuerid steuernummer
    steueridentifikationsnummer identifikationsnummer idnr versichertennummer versicherungsnummer versicherten-nr
    krankenversichertennummer kvnr krankenversicherungsnummer rentenversicherungsnummer sozialversicherungsnummer rvnr
    personalausweis personalausweisnummer ausweisnummer reisepass reisepassnummer fallnummer fall-nr patientennummer
    patienten-id patienten-nr patienten-id-nr aktenzeichen aufnahmenummer kontonummer kundennummer mitgliedsnummer
    sécurité_sociale secu sécu n°_ss nir ipp iep numéro_de_dossier dossier_médical dossier_patient dossier_n
    carte_vitale numéro_patient carte_d'identité passeport numéro_d'assuré mutuelle numéro_de_compte numéro_d'adhérent
    dni nie nif historia_clínica historia_clinica número_de_historia nhc nuhsa cip seguridad_social afiliación
    tarjeta_sanitaria pasaporte documento_de_identidad cuenta_corriente número_de_cuenta póliza expediente cédula curp
    codice_fiscale cod._fiscale c.f. mio_codice tessera_sanitaria cartella_clinica numero_di_cartella nosografico
    nosologico carta_d'identità passaporto conto_corrente numero_di_conto polizza cpf rg cns cartão_sus cartao_sus sus
    prontuário prontuario carteirinha plano_de_saúde convênio matrícula_do_plano identidade passaporte
    título_de_eleitor pis nis número_da_conta conta_corrente マイナンバー 個人番号 患者番号 患者id カルテ番号 カルテno 診察券番号 診察番号 保険証番号 被保険者番号
    記号番号 保険者番号 基礎年金番号 年金番号 旅券番号 パスポート番号 パスポート 口座番号 在留カード番号 受付番号 登録番号 身份证号 身份证 身份证号码 身份证号为 病历号 病案号 住院号 门诊号 就诊卡号 就诊号
    医保卡号 医保号 社保卡号 社保号 护照号 护照 银行卡号 卡号 账号 登记号 检查号 标本号 病人编号 患者编号 案例号 保单号 保险单号 आधार आधार_संख्या पासपोर्ट रोगी_संख्या
    """,
    "licence number": """
    dea dea_number npi npi_number medical_license medical_licence physician_license license_number licence_number
    nursing_license state_license board_certificate pharmacy_license driver's_license driver's_licence drivers_license
    drivers_licence driver_license driving_licence driving_license dl_no dl_number d.l. gmc gmc_number nmc nmc_pin
    hcpc registration_no_mci mci nmc_reg mci_reg medical_council medical_council_reg certificate_number lanr bsnr
    arztnummer betriebsstättennummer approbation approbationsnummer führerschein führerscheinnummer rpps adeli
    permis_de_conduire colegiado colegiada nº_colegiado colegiado_nº carné_de_conducir permiso_de_conducir
    ordine_dei_medici omceo iscrizione_ordine patente patente_di_guida patente_n crm coren crf cro cnh
    carteira_de_motorista 医籍登録番号 免許証番号 運転免許証番号 麻薬施用者番号 保険医登録番号 执业医师证书编号 医师执业证书编号 执业证书编号 执业证号 医师资格证书编号 驾驶证号 驾照号 驾驶证
    """,
    "device": """
    serial_number serial_no serial serial_# meter_id pump_id monitor_id sensor_id cpap_id model_and_serial s/n sn udi
    device_id device_identifier device_number imei implant_id lot_and_serial seriennummer serien-nr gerätenummer
    geräte-nr chargen-_und_seriennummer numéro_de_série n°_de_série nº_de_série número_de_serie nº_de_serie
    núm._de_serie nº_serie numero_di_serie numero_seriale matricola número_de_série nº_série 製造番号 シリアル番号 機器番号 序列号 设备编号
    设备号 机身号 出厂编号 क्रम_संख्या
    """,
    "vehicle": """
    vin chassis chassis_number vehicle_identification_number fahrgestellnummer fahrzeugidentifikationsnummer
    fin_nummer bastidor telaio numero_di_telaio chassi 車台番号 车架号 车辆识别代号
    """,
    "biometric": """
    fingerprint fingerprint_id fingerprints thumbprint thumb_print voiceprint voice_print voiceprint_id retina_scan
    retinal_scan iris_scan iris_code iris retina faceprint faceid face_id palm_print handprint biometric biometrics
    biometric_id fingerabdruck empreinte_digitale huella_dactilar huella impronta_digitale impressão_digital 指紋 指紋id
    指紋番号 指纹 指纹编号 指纹编码 声纹 声纹编号 虹膜 人脸编号
    """,
}
WEAK = {
    "record number": """
    record chart patient hospital file case_file case admission insurance policy member subscriber account acc plan
    claim group card health_insurance rx mr op ip cr opd ipd reg registration id identity visit encounter specimen
    sample lab order invoice ticket reference ref customer client employee student study_subject subject participant
    enrolment enrollment bill receipt bank bank_account id_card lab_id hosp unit_record akte konto kunde dossier
    séjour assuré patiente historia expediente paciente cuenta paziente cartella conto ricovero conta paciente_id
    registro atendimento guia
    """,
    "licence number": "lic license licence certificate certification doctor_reg reg._medical lizenz licenza licencia licença",
    "device": "device implant pacemaker pump prosthesis stent icd defibrillator hearing_aid glucometer valve gerät prothese",
}
# what may stand between a label and its number; the first kind says that a number follows
NUMBER_WORDS = """
    no nr num number numbers id ids # n° nº nos n.º número numero numéro nummer code card № : pin ref reg 番号 号 号码 编号
"""
FILLERS = """
    n is was were are be reads read says said as given on my his her their our the of for at by to from me us him =
    and template hash ist lautet war unter est était es era sobre è são e den dem die der le la el il lo o a do da del
    un una em al au ce que state california texas york florida full last
"""
# the same where words are not set apart by blanks
ENDINGS = "はがをもの：:是为的為号码"

TELEPHONE = """
    phone telephone tel tele telno mobile cell cellphone fax call ring text sms whatsapp whats_app contact reach
    reached landline dial phone_number mobile_number contact_number my_number ph mob cel telefon telefonnummer handy
    handynummer mobil mobilnummer festnetz rückruf rufnummer anrufen erreichen erreichbar durchwahl téléphone tél
    portable joindre appelez appeler rappeler fixe numéro_de_téléphone mon_numéro teléfono móvil movil celular llámeme
    llamar llame llámame contacto mi_número mi_numero telefono cellulare chiamare chiami chiamate recapito chiamarmi
    mio_numero telefone fone ligar ligue liga ligação zap fixo meu_número 電話 電話番号 携帯 携帯番号 連絡先 電話は 电话 手机 手机号 手机号码 联系电话
    联系方式 座机 传真 फोन मोबाइल नंबर
"""
