"""The counts that hold the package to its budget."""

from pathlib import Path
from textwrap import dedent

import house
import pytest


@pytest.fixture
def checkout(tmp_path):
    """A package of three modules in two folders, small enough to count by hand."""
    files = {
        "__init__.py": '"""A package."""\n',
        "shapes/__init__.py": "",
        "shapes/circle.py": '''
            """Circles."""

            from dataclasses import dataclass
            from typing import TYPE_CHECKING

            if TYPE_CHECKING:
                from wavshap_lightning.shapes import square


            @dataclass(frozen=True)
            class Circle:
                """What is round."""

                radius: float  # in metres

                def area(self):
                    """Its area."""
                    return (
                        3.14
                        * self.radius**2
                    )
        ''',
        "shapes/square.py": '''
            """Squares."""


            def area(side):
                from .circle import Circle

                """Not a docstring."""
                return side**2
        ''',
        "draw.py": "from wavshap_lightning.shapes.circle import Circle\n",
    }
    for name, text in files.items():
        path = tmp_path / house.PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))
    return house.read_modules(tmp_path)


def test_code_lines_are_those_without_docstrings_comments_and_blanks(checkout):
    assert house.code_per_ring(checkout) == {"(root)": 1, "shapes": 12 + 4}


def test_functions_are_counted_with_their_signature_and_without_their_docstring(checkout):
    lengths = {place.rpartition(":")[0]: count for place, count in house.function_lengths(checkout).items()}
    assert lengths == {"wavshap_lightning.shapes.circle": 5, "wavshap_lightning.shapes.square": 4}


def test_files_are_counted_by_folder_without_inits(checkout):
    assert house.files_per_folder(checkout) == {"wavshap_lightning": 1, "wavshap_lightning.shapes": 2}


def test_imports_count_under_type_checking_inside_functions_and_relative(checkout):
    imports = house.imports_of(checkout)
    assert imports["wavshap_lightning.shapes.circle"] == {"wavshap_lightning.shapes.square"}
    assert imports["wavshap_lightning.shapes.square"] == {"wavshap_lightning.shapes.circle"}
    assert house.import_cycles(imports) == [
        ["wavshap_lightning.shapes.circle", "wavshap_lightning.shapes.square"]
    ]


def test_a_chain_of_imports_is_no_cycle():
    assert house.import_cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_small_modules_with_one_importer_are_found(checkout):
    assert house.small_modules(checkout) == {
        "wavshap_lightning.shapes.square": "wavshap_lightning.shapes.circle"
    }


def test_records_and_vague_docstrings_are_found(checkout):
    assert house.record_types(checkout) == ["wavshap_lightning.shapes.circle.Circle"]
    assert house.vague_docstrings(checkout) == ["wavshap_lightning.shapes.circle:12 What is round."]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5), (0.9, 9), (0.91, 10), (1.0, 10), (0.01, 1)])
def test_a_percentile_is_the_smallest_value_no_smaller_than_that_share(share, expected):
    assert house.percentile([*range(10, 0, -1)], share) == expected


# The package itself

ROOT = Path(__file__).parents[1]
MOST_MODULES, MOST_FILES = 150, 15

# Short modules with a single importer, each with the reason why it is a file of its own.
SHORT = {
    "wavshap_lightning.attribution.gradient_shap": "one method, like its siblings",
    "wavshap_lightning.attribution.integrated_gradients": "one method, like its siblings",
    "wavshap_lightning.corpora.esd": "the loader of one corpus, like its siblings",
    "wavshap_lightning.corpora.meld": "the loader of one corpus, like its siblings",
    "wavshap_lightning.corpora.msp_podcast": "the loader of one corpus, like its siblings",
}


@pytest.fixture(scope="module")
def package():
    return house.read_modules(ROOT)


def test_the_package_keeps_to_its_budget(package):
    assert sum(not module.is_package for module in package.values()) <= MOST_MODULES
    assert max(house.files_per_folder(package).values()) <= MOST_FILES


def test_docstrings_name_what_they_describe(package):
    assert house.vague_docstrings(package) == []


def test_short_modules_have_a_reason(package):
    assert house.small_modules(package).keys() <= SHORT.keys()


def test_no_module_imports_itself_by_way_of_others(package):
    assert house.import_cycles(house.imports_of(package)) == []
