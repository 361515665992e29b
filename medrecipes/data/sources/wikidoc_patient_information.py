"""Medical Meadow WikiDoc Patient Information: plain answers for patients, with questions made from headings."""

from __future__ import annotations

from dataclasses import replace

from medrecipes.data.sources import Defect, wikidoc

SOURCE = replace(
    wikidoc.SOURCE,
    name="wikidoc_patient_information",
    title="Medical Meadow WikiDoc Patient Information",
    homepage="https://huggingface.co/datasets/medalpaca/medical_meadow_wikidoc_patient_information",
    repo="medalpaca/medical_meadow_wikidoc_patient_information",
    defects=(Defect("e-mail addresses occur in answers; lists were flattened to lines"),),
)
