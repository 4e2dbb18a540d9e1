"""Every stored network of another library, against that library's own output."""

from __future__ import annotations

import pytest
from zoo import matrix
from zoo.opened import open_with, opened
from zoo.stored_cases import Stored, cases

from napari_unet.checkpoints.families import by_name

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_output_is_the_librarys(case: Stored):
    network, difference = opened(case)
    assert network.spec.family == case.facts["family"]
    assert difference <= 5e-6
    spec = network.spec.model_dump(mode="json")
    for field, value in case.facts["fields"].items():
        assert spec[field] == value


@pytest.mark.parametrize("case", [c for c in CASES if c.facts["settings"]], ids=str)
def test_what_a_person_must_tell_was_listed_as_assumed(case: Stored):
    network = open_with(case, {})
    assumed = {a.field: a for a in network.spec.assumed}
    for name, value in case.facts["settings"].items():
        fact = assumed[f"architecture.{name}"]
        choices = [fact.value, *fact.alternatives]
        assert not fact.alternatives or value in choices


def test_the_matrix_in_the_documentation_lists_every_case():
    page = matrix.PAGE.read_text()
    missing = [str(c) for c in CASES if f"\n| {c.name} |" not in page]
    assert not missing, "run PYTHONPATH=tests python -m zoo.matrix"


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.facts["family"] != "program"], ids=str
)
def test_emitted_tensors_have_the_librarys_names_and_shapes(case: Stored):
    network, _ = opened(case)
    family = by_name(network.spec.family)
    state = network.module.state_dict()
    emitted = family.emit(state, network.spec.architecture)
    unused = case.facts.get("unused")
    assert {k: list(t.shape) for k, t in emitted.items()} == {
        name: shape
        for name, shape, *_ in case.facts["schema"]
        if not unused or not name.startswith(unused)
    }
