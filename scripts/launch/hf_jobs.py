# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["medrecipes[cuda] @ git+https://github.com/OWNER/medrecipes"]
# ///
"""One recipe as a job of the Hugging Face Hub, which installs medrecipes from the address above.

Where that says OWNER, write the account that your copy of the repository lies in.

  hf jobs uv run --flavor a10g-small --timeout 6h --secrets HF_TOKEN scripts/launch/hf_jobs.py mistral_medquad

The machine is gone when the job ends, so the run is released to your account at its end, private unless the recipe says otherwise.
More arguments go to `medrecipes run`, such as --set train.epochs=2. With a bucket as the folder of runs, a job that was stopped
goes on where it stopped: put  -v hf://buckets/YOU/medrecipes-runs:/runs  before the script, and  --runs /runs  behind the recipe.
"""

from __future__ import annotations

import sys

from medrecipes.commands import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:], "--set", "publish.push=true"]))
