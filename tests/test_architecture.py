"""The rings hold, and importing the package is quick and quiet."""

import subprocess
import sys
from pathlib import Path

import pytest

import wavshap_lightning

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "lightning", "transformers", "wandb", "librosa", "matplotlib")


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)


def test_the_import_contracts_hold():
    report = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert report.returncode == 0, report.stdout


def test_importing_the_package_is_quiet_and_loads_nothing_heavy():
    code = f"import sys, wavshap_lightning; print([name for name in {HEAVY} if name in sys.modules])"
    finished = run_python(code)
    assert finished.stdout.strip() == "[]"
    assert finished.stderr == ""


@pytest.mark.parametrize("name", wavshap_lightning.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(wavshap_lightning, name).__doc__


def test_the_public_list_is_sorted_and_complete():
    assert wavshap_lightning.__all__ == sorted(wavshap_lightning._HOME)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = wavshap_lightning.nothing


def test_the_inner_rings_load_no_model_library():
    code = (
        "import sys, wavshap_lightning.corpora.catalogue, wavshap_lightning.corpora.audit, "
        "wavshap_lightning.planted.corpus, wavshap_lightning.planted.into_recordings\n"
        "print([name for name in ('torch', 'lightning', 'transformers', 'wandb') if name in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"


def test_what_explains_a_clip_loads_nothing_that_only_an_option_asks_for():
    slow = (
        "lightning",
        "wandb",
        "torchmetrics",
        "numba",
        "scipy.signal",  # not scipy.stats, which some versions of transformers import
        "pandas",
        "matplotlib.pyplot",
    )
    code = (
        "import sys, wavshap_lightning.cli.explain, wavshap_lightning.viz.report\n"
        f"print([name for name in {slow} if name in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"
