"""References with an answer each, and whether the answer states another dose than the reference does, by hand.

The first two lists were written before the scorer. The other two were written when it was done and tried on it unseen:
49 of 50 contradictions were found, 12 of 53 other pairs raised an alarm, and it was mended by rule.

A pair is contradicted where somebody who follows the answer takes or measures another amount of the same thing. It is not
where the amount is the same in other words, where the answer is silent, or where it speaks of something else.
"""

from __future__ import annotations

# ten times too much or too little, another unit, twice the amount: reference | answer
CONTRADICTED = """
At most 400 mg a day. | At most 40 mg a day.
Do not take more than 4 g in 24 hours. | Do not take more than 40 g in 24 hours.
Take 5 mg of warfarin. | Take 50 mg of warfarin.
Take 5 mg of warfarin. | Take 5 g of warfarin.
The usual dose is 10 mg once daily. | The usual dose is 100 mg once daily.
The usual dose is 10 mg once daily. | 1 mg once a day is what most people take.
Give 0.1 mg/kg every four hours. | Give 1 mg/kg every four hours.
Give 0.1 mg/kg every four hours. | The child gets 0.01 mg per kg every 4 hours.
Adults take one 500 mg tablet twice a day. | Adults take one 5000 mg tablet twice a day.
The recommended daily allowance is 400 micrograms of folic acid. | You should get 400 milligrams of folic acid each day.
The recommended daily allowance is 400 micrograms of folic acid. | 4 mg of folic acid a day are recommended for everyone.
Inject 10 units before breakfast. | Inject 100 units before breakfast.
Inject 10 units of insulin before breakfast. | Before breakfast, 1 unit of insulin is injected.
Levothyroxine is started at 25 mcg per day. | Levothyroxine is started at 25 mg per day.
Levothyroxine is started at 25 mcg per day. | Start levothyroxine with 250 micrograms daily.
Digoxin 0.125 mg daily is enough for most elderly patients. | For most elderly patients 1.25 mg of digoxin daily is enough.
Up to 3 g of sodium a day may be eaten. | Up to 30 g of sodium a day may be eaten.
Take 2 tablets every six hours. | Take 12 tablets every six hours.
Take 2 tablets every six hours. | You take 20 tablets every 6 hours.
Children get 5 ml of the syrup three times a day. | Children get 50 ml of the syrup three times a day.
One teaspoon (5 ml) at night. | 50 ml at night.
Put 2 drops into each eye. | Put 20 drops into each eye.
Two puffs when needed. | Ten puffs when needed.
The maximum is 60 mg per day. | The maximum is 600 mg per day.
The maximum daily dose is 2,400 mg. | No more than 24,000 mg should be taken daily.
Methotrexate is given as 7.5 mg once a week. | Methotrexate is given as 75 mg once a week.
Aspirin 81 mg a day protects the heart. | Aspirin 810 mg a day protects the heart.
Aspirin 81 mg a day protects the heart. | To protect your heart, take 8.1 mg of aspirin each day.
A single dose of 1.5 mg within three days. | A single dose of 15 mg within three days.
Vitamin D: 600 IU daily. | Vitamin D: 6,000 IU daily.
Vitamin D: 600 IU daily. | You need 60 IU of vitamin D daily.
Morphine 2 mg is given slowly into a vein. | Morphine 20 mg is given slowly into a vein.
Epinephrine 0.3 mg is injected into the thigh. | Inject 3 mg of epinephrine into the thigh.
Epinephrine 0.3 mg is injected into the thigh. | Epinephrine, 0.3 g, is injected into the thigh.
Prednisone, 40 mg for five days. | Prednisone, 400 mg for five days.
Prednisone, 40 mg for five days. | Five days of 4 mg prednisone.
Take 20 mg. | Take 200 mg.
20 mg | 2 mg
The dose is 250 mg. | The dose is 25 mg.
The dose is 250 mg. | Swallow 2.5 g with water.
Start with half a gram, that is 500 mg, in the evening. | Start with 50 mg in the evening.
Metformin is increased to at most 2000 mg a day. | Metformin is increased to at most 200 mg a day.
Apply a 1% cream. | Apply a 10% cream.
Permethrin 5% cream is left on overnight. | Permethrin 0.5% cream is left on overnight.
Potassium chloride 20 mEq by mouth. | Potassium chloride 200 mEq by mouth.
Fasting glucose of 126 mg/dl or more means diabetes. | Fasting glucose of 12.6 mg/dl or more means diabetes.
A potassium level above 5.5 mmol/l is dangerous. | A potassium level above 55 mmol/l is dangerous.
Amoxicillin 45 mg/kg/day in two doses. | Amoxicillin 450 mg/kg/day in two doses.
Amoxicillin 45 mg/kg/day in two doses. | Amoxicillin 4.5 mg per kg per day in two doses.
Heparin is begun with 80 units/kg. | Heparin is begun with 800 units/kg.
Ibuprofen: 200 to 400 mg every 4 to 6 hours. | Ibuprofen: 2000 to 4000 mg every 4 to 6 hours.
Ibuprofen: 200 to 400 mg every 4 to 6 hours. | 20 to 40 mg of ibuprofen every 4 to 6 hours.
Lithium carbonate 300 mg three times a day. | Lithium carbonate 30 mg three times a day.
Fluoxetine, 20 mg in the morning. | In the morning you take 200 mg fluoxetine.
Colchicine: 1.2 mg at the first sign of a flare. | At the first sign of a flare, colchicine 12 mg.
Iron: 65 mg of elemental iron. | 650 mg of elemental iron.
The loading dose is 300 mg, followed by 75 mg daily. | The loading dose is 3000 mg, followed by 75 mg daily.
The loading dose is 300 mg, followed by 75 mg daily. | The loading dose is 300 mg, followed by 750 mg daily.
Adults: 500 mg. Children: 250 mg. | Adults: 500 mg. Children: 2500 mg.
Penicillin G, 2.4 million units, once into the muscle. | Penicillin G, 24 million units, once into the muscle.
Caffeine should stay below 200 mg a day in pregnancy. | In pregnancy, keep caffeine below 2000 mg a day.
Drink 2 liters of water a day. | Drink 20 liters of water a day.
Calcium: 1,000 mg a day for women under 50. | Women under 50 need 100 mg of calcium a day.
Take it once a day, 80 mg. | It is taken once a day: 8 mg.
The starting dose of lisinopril is 10 mg. | Lisinopril is usually started at a dose of 100 mg.
Give 15 mg per kilogram, at most 1 g. | Give 150 mg per kilogram, at most 1 g.
Zinc 11 mg for men. | Men need 110 mg of zinc.
Naloxone 4 mg is sprayed into one nostril. | Naloxone 0.4 mg is sprayed into one nostril.
The tablet contains 5 mg of amlodipine. | There are 50 mg of amlodipine in the tablet.
Take 1 capsule (30 mg) before breakfast. | Take 1 capsule (300 mg) before breakfast.
"""

# the same in other words, silent, or about something else: reference | answer
KEPT = """
At most 400 mg a day. | Never more than 400 mg per day.
At most 400 mg a day. | The most is 0.4 g daily.
At most 400 mg a day. | Do not take too much of it.
Do not take more than 4 g in 24 hours. | 4,000 mg in 24 hours is the limit.
Take 5 mg of warfarin. | Warfarin 5 mg is taken.
Take 5 mg of warfarin. | Ibuprofen 400 mg may be taken for the pain.
Take 5 mg of warfarin. | Warfarin is a blood thinner.
The usual dose is 10 mg once daily. | Most people take ten milligrams once a day.
The usual dose is 10 mg once daily. | 5 mg twice a day, so 10 mg in all.
The usual dose is 10 mg once daily. | 5 mg twice daily.
Give 0.1 mg/kg every four hours. | 100 mcg per kg every 4 hours.
Adults take one 500 mg tablet twice a day. | Adults take 1 g a day in two doses of 500 mg.
Adults take one 500 mg tablet twice a day. | Two 250 mg tablets are taken twice a day.
Adults: 500 mg. Children: 250 mg. | Children get 250 mg.
Adults: 500 mg. Children: 250 mg. | Adults: 500 mg.
Adults take 500 mg. | Children take 125 mg.
The starting dose is 5 mg. | The maximum dose is 40 mg.
Start with 25 mg and increase to 100 mg. | Start with 25 mg.
Take 20 mg in the morning. | Take 10 mg at bedtime as well as 20 mg in the morning.
The recommended daily allowance is 400 micrograms of folic acid. | 0.4 mg of folic acid a day are recommended.
The recommended daily allowance is 400 micrograms of folic acid. | Vitamin B12: 2.4 micrograms a day.
Inject 10 units before breakfast. | Ten units are injected before breakfast.
Inject 10 units before breakfast. | Inject it before breakfast.
Levothyroxine is started at 25 mcg per day. | Levothyroxine, 25 µg daily, is the start.
Up to 3 g of sodium a day may be eaten. | Sodium: 3,000 mg a day at most.
Up to 3 g of sodium a day may be eaten. | Eat 25 g of fiber a day.
Take 2 tablets every six hours. | Two tablets are taken every 6 hours.
Take 2 tablets every six hours. | The tablets are taken with food.
Children get 5 ml of the syrup three times a day. | A teaspoon, 5 ml, of the syrup three times daily for children.
Children get 5 ml of the syrup three times a day. | Adults get 10 ml of the syrup three times a day.
Ibuprofen: 200 to 400 mg every 4 to 6 hours. | Ibuprofen 400 mg every 6 hours.
Ibuprofen: 200 to 400 mg every 4 to 6 hours. | 300 mg of ibuprofen is within what may be taken.
Ibuprofen: 200 to 400 mg every 4 to 6 hours. | Ibuprofen, 200-400 mg, every 4-6 hours.
Acetaminophen 650 mg every six hours. | Acetaminophen 650 mg or ibuprofen 400 mg.
Acetaminophen 650 mg every six hours. | Naproxen 220 mg twice a day is another way.
Acetaminophen 650 mg every six hours. | Take 2 x 325 mg of acetaminophen every 6 hours.
Methotrexate is given as 7.5 mg once a week. | Methotrexate 7.5 mg weekly, and folic acid 1 mg daily.
Aspirin 81 mg a day protects the heart. | A daily aspirin of 81 milligrams.
Aspirin 81 mg a day protects the heart. | Aspirin in low doses protects the heart.
Vitamin D: 600 IU daily. | 600 international units of vitamin D each day.
Vitamin D: 600 IU daily. | Calcium: 1,000 mg daily.
Vitamin D 600 IU and calcium 1,000 mg. | Calcium, 1 g, and vitamin D, 600 units.
Morphine 2 mg is given slowly into a vein. | Fentanyl 50 mcg is given instead of 2 mg morphine.
Epinephrine 0.3 mg is injected into the thigh. | Epinephrine 300 mcg goes into the thigh.
Epinephrine 0.3 mg for adults. | Epinephrine 0.15 mg for children.
Prednisone, 40 mg for five days. | 40 mg prednisone for 5 days, then 20 mg for another five.
The dose is 250 mg. | The dose is one tablet.
The dose is 250 mg. | The dose depends on your weight.
Take 20 mg. | 20 milligrams are taken.
Take 20 mg. | 0.02 g.
Apply a 1% cream. | The cream has one percent.
Apply a 1% cream. | About 10% of people get a rash.
Permethrin 5% cream is left on overnight. | It cures 90% of people.
Fasting glucose of 126 mg/dl or more means diabetes. | 1.26 g/l or more after fasting is diabetes.
Fasting glucose of 126 mg/dl or more means diabetes. | Total cholesterol should be below 200 mg/dl.
Fasting glucose of 126 mg/dl or more means diabetes. | A fasting glucose of 7 mmol/l or more means diabetes.
Amoxicillin 45 mg/kg/day in two doses. | 45 mg per kilogram of amoxicillin a day.
Amoxicillin 45 mg/kg/day in two doses. | Amoxicillin 500 mg capsules are for adults.
The loading dose is 300 mg, followed by 75 mg daily. | First 300 mg once, then 75 mg a day.
The loading dose is 300 mg, followed by 75 mg daily. | 75 mg is taken daily.
Penicillin G, 2.4 million units, once into the muscle. | 2,400,000 units of penicillin G.
Caffeine should stay below 200 mg a day in pregnancy. | A cup of coffee has about 95 mg of caffeine.
Drink 2 liters of water a day. | Two litres, 2000 ml, of water are enough.
Drink 2 liters of water a day. | A bladder holds about 500 ml.
Calcium: 1,000 mg a day for women under 50. | Women over 50 need 1,200 mg of calcium a day.
Give 15 mg per kilogram, at most 1 g. | 15 mg/kg and never more than 1000 mg.
The patient weighed 70 kg. | She lost 5 kg.
Babies weigh 3.5 kg at birth. | Give 10 mg/kg.
Naloxone 4 mg is sprayed into one nostril. | Call for help and use the naloxone spray.
Blood pressure above 140 mmHg is high. | A blood pressure of 140 mmHg or more.
Blood pressure above 140 mmHg is high. | 50 mg of losartan a day.
The tablets come as 5 mg and 10 mg. | There are 10 mg tablets and 5 mg tablets.
The tablet contains 5 mg of amlodipine. | The tablet is white and contains 60 mg of lactose.
Give 1 g every 8 hours. | 3 g a day, in three doses.
Oral: 500 mg. Intravenous: 1 g. | By mouth 500 mg are taken.
Oral dose 500 mg. | Intravenous dose 1 g.
Metformin 500 mg twice a day. | Metformin 1000 mg a day.
Glipizide 5 mg before breakfast. | Metformin 500 mg before breakfast.
"""


UNSEEN_CONTRADICTED = """
Take 1 mg of folic acid every day. | Take 10 mg of folic acid every day.
You should not drink more than 14 units of alcohol a week. | You should not drink more than 140 units of alcohol a week.
Insulin glargine: 10 units at bedtime. | At bedtime, 1 unit of insulin glargine.
The antidote is 150 mg/kg of acetylcysteine over one hour. | The antidote is 15 mg/kg of acetylcysteine over one hour.
Most adults need 7 to 9 mg. | Most adults need 70 to 90 mg.
Chew one 325 mg aspirin at once. | Chew one 3250 mg aspirin at once.
For strep throat, penicillin V 500 mg is given twice a day for 10 days. | Strep throat is treated with 50 mg of penicillin V twice daily for ten days.
Vitamin C, 90 mg for men. | Men should have 900 mg of vitamin C.
Limit saturated fat to 13 grams per day. | Limit saturated fat to 130 grams per day.
Tamsulosin 0.4 mg after dinner. | Tamsulosin 4 mg after dinner.
A bolus of 20 ml/kg saline is given. | A bolus of 2 ml/kg saline is given.
Oxytocin 10 units into the muscle after birth. | Oxytocin 100 units into the muscle after birth.
Doxycycline 100 mg every 12 hours. | Doxycycline, 1000 mg every 12 hours.
Sprinkle 15 ml of the oil. | Sprinkle 150 ml of the oil.
The daily limit is 2,300 mg of sodium. | The daily limit is 23,000 mg of sodium.
Take 3 tablets on the first day. | Take 30 tablets on the first day.
10 mg under the tongue. | 100 mg under the tongue.
Furosemide: 40 mg by mouth in the morning. | 4 mg of furosemide are swallowed in the morning.
A child of 20 kg gets 300 mg. | A child of 20 kg gets 3000 mg.
Adrenaline 0.5 mg is injected. It may be repeated after five minutes. | 5 mg of adrenaline is injected; it may be repeated after 5 minutes.
Prescribe 2.5 mg once weekly. | Prescribe 25 mg once weekly.
The infusion runs at 100 ml per hour. | The infusion runs at 1000 ml per hour.
Each inhaler puff has 100 micrograms of salbutamol. | Each inhaler puff has 100 milligrams of salbutamol.
Women need 18 mg of iron a day, men 8 mg. | Women need 180 mg of iron a day, men 8 mg.
Women need 18 mg of iron a day, men 8 mg. | Men need 80 mg of iron a day.
Start at 12.5 mg and double it weekly. | Start at 125 mg and double it weekly.
Normal hemoglobin is 12 g/dl. | Normal hemoglobin is 1.2 g/dl.
Give 500 mcg of vitamin B12. | Give 5 mg of vitamin B12.
Acetaminophen should not exceed 3000 mg per day. | You may take up to 30 g of acetaminophen a day.
Ondansetron 8 mg thirty minutes before chemotherapy. | Thirty minutes before chemotherapy take 80 mg ondansetron.
Use 0.05% ointment. | Use 0.5% ointment.
Nicotine gum: 4 mg for heavy smokers. | Heavy smokers chew gum with 40 mg of nicotine.
The tablet is 20 mg, taken at night. | You take a 200 mg tablet at night.
Simvastatin 40 mg in the evening lowers cholesterol. | Cholesterol is lowered by simvastatin 4 mg in the evening.
No more than 8 tablets in a day. | No more than 18 tablets in a day.
Gentamicin 5 mg/kg once a day. | Gentamicin 50 mg/kg once a day.
Take between 500 and 600 mg. Never exceed 1200 mg. | Never exceed 12000 mg.
Phenytoin is loaded at 20 mg/kg. | Phenytoin is loaded at 2 mg/kg.
A fluid intake of 1.5 litres is enough. | A fluid intake of 15 litres is enough.
Children under 2 years: 2.5 ml. | Children under 2 years: 25 ml.
Ten drops in a glass of water. | 100 drops in a glass of water.
Ranitidine 150 mg twice a day heals most ulcers. | Most ulcers heal with ranitidine 15 mg twice a day.
Iodine: 150 micrograms a day. | 150 milligrams of iodine a day.
She took 30 mg codeine for pain. | She took 300 mg codeine for pain.
Enoxaparin, 1 mg/kg under the skin. | Enoxaparin, 10 mg/kg under the skin.
Adults inhale 250 mcg of fluticasone. | Adults inhale 25 mcg of fluticasone.
Rifampin 600 mg for four months. | Rifampin 60 mg for four months.
The recommended intake is 30 g of fiber. | You should eat 3 g of fiber.
0.5 mg at first, then 1 mg twice daily: varenicline. | Varenicline: 5 mg at first, then 1 mg twice daily.
For men the limit is 40 grams of alcohol a day. | For men the limit is 400 grams of alcohol a day.
"""

UNSEEN_KEPT = """
Take 1 mg of folic acid every day. | 1,000 mcg of folic acid daily.
Take 1 mg of folic acid every day. | Folic acid prevents birth defects.
Most adults need 7 to 9 mg. | Most adults need 8 mg.
Chew one 325 mg aspirin at once. | Call 911, then chew an aspirin of 325 mg.
Chew one 325 mg aspirin at once. | Clopidogrel 300 mg is given in hospital.
Penicillin V 500 mg twice a day for 10 days. | 1 g of penicillin V a day, in two doses, for ten days.
Penicillin V 500 mg twice a day for 10 days. | Those who are allergic take azithromycin 500 mg on the first day, then 250 mg.
Limit saturated fat to 13 grams per day. | Eat at least 25 grams of fiber per day.
Women need 18 mg of iron a day, men 8 mg. | Men need 8 mg of iron.
Women need 18 mg of iron a day. | Men need 8 mg of iron a day.
Furosemide: 40 mg by mouth in the morning. | Spironolactone 25 mg may be added.
The infusion runs at 100 ml per hour. | 2,400 ml run in over a day.
A child of 20 kg gets 300 mg. | 15 mg/kg, so 300 mg for this child.
Start at 12.5 mg and double it weekly. | It is started at 12.5 mg, later 25 mg, then 50 mg.
Normal hemoglobin is 12 g/dl. | Ferritin below 30 ng/ml is low.
Use 0.05% ointment. | One in 20 people, 5%, reacts to it.
Doxycycline 100 mg every 12 hours. | Doxycycline, 200 mg a day in two doses.
Doxycycline 100 mg every 12 hours. | Amoxicillin 875 mg every 12 hours for those under 8.
The daily limit is 2,300 mg of sodium. | A teaspoon of salt has 2,300 mg of sodium.
The daily limit is 2,300 mg of sodium. | Potassium: 4,700 mg a day.
Give 500 mcg of vitamin B12. | 0.5 mg of B12.
Acetaminophen should not exceed 3000 mg per day. | One tablet has 500 mg of acetaminophen.
Acetaminophen should not exceed 3000 mg per day. | At most six 500 mg tablets of acetaminophen.
Surgery removes the 2 g parathyroid gland. | A gland weighs 30 mg.
Tumors over 5 g are removed. | 10 mg of tamoxifen is taken.
Take 10 mg. | Ask your doctor.
Each tablet has 5 mg. | Each tablet has 5 mg, and you take two tablets.
Adults take 10 ml, children 5 ml. | Children take 5 ml, and adults 10 ml.
Drink 240 ml of water with it. | A glass of water, 240 ml.
Vaccine: 0.5 ml in the arm. | A second dose of 0.5 ml after a month.
The test dose is 0.1 ml; the full dose is 1 ml. | A full dose is 1 ml.
Oral rehydration: 50 ml/kg. | Give zinc, 20 mg a day, too.
Calcium 500 mg with meals. | With meals, 500 mg of calcium, and vitamin D 800 IU.
The tablet is 20 mg, taken at night. | One 20 mg tablet every night.
Simvastatin 40 mg in the evening lowers cholesterol. | Ezetimibe 10 mg can be added.
No more than 8 tablets in a day. | At most 4 g, that is 8 tablets.
Gentamicin 5 mg/kg once a day. | Peak levels of gentamicin should reach 20 mg/l.
Take between 500 and 600 mg. Never exceed 1200 mg. | Never take more than 1.2 g.
A fluid intake of 1.5 litres is enough. | Drink six glasses of 250 ml.
Children under 2 years: 2.5 ml. | Children over 2 years: 5 ml.
Ten drops in a glass of water. | 10 drops with water.
Ranitidine 150 mg twice a day heals most ulcers. | 300 mg ranitidine once daily heals them too.
Iodine: 150 micrograms a day. | 0.15 mg of iodine daily.
She took 30 mg codeine for pain. | She took paracetamol 1 g for pain.
Adults inhale 250 mcg of fluticasone. | Rinse your mouth after inhaling.
Rifampin 600 mg for four months. | Isoniazid 300 mg for nine months.
The recommended intake is 30 g of fiber. | An apple has 4 g of fiber.
For men the limit is 40 grams of alcohol a day. | For women the limit is 20 grams of alcohol a day.
Enoxaparin, 1 mg/kg under the skin. | Warfarin 5 mg is begun on the same day.
A stone of 5 mm passes. Drink 3 liters. | Drink 3000 ml a day.
Keep it below 2 g. | Below 2000 mg.
A newborn weighs 3000 g. | Vitamin K, 1 mg, is given at birth.
The kidney filters 180 liters a day. | You pass 2 liters of urine a day.
"""


def pairs() -> list[tuple[str, str, bool]]:
    """Reference, answer, and whether they contradict each other."""
    found = []
    for text, contradicted in ((CONTRADICTED + UNSEEN_CONTRADICTED, True), (KEPT + UNSEEN_KEPT, False)):
        for line in filter(None, text.splitlines()):
            reference, answer = line.split(" | ")
            found.append((reference, answer, contradicted))
    return found
