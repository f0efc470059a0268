"""The named CPUs of the core, and the set of features that a VM keeps."""

from __future__ import annotations

from pathlib import Path

import pe_features as feat
import pytest

from bhyvepy import cpu, vmmapi
from bhyvepy.vmmapi import VM

V8_0 = {"AES", "PMULL", "SHA1", "SHA256", "CRC32", "CSV2", "CSV3", "PMUv3"}


@pytest.fixture
def vm_dir(vmm_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The VM directory of bhyvepy."""
    monkeypatch.setenv("BHYVEPY_VMMDIR", str(vmm_dir))
    return vmm_dir


def named(features: int) -> set[str]:
    return {name for name in feat.NAMES if features & feat.BIT[name]}


def test_names() -> None:
    """Features are called as in pe_feature.def, in lower case."""
    assert vmmapi.feature_names() == tuple(n.lower().replace("_", "-") for n in feat.NAMES)


def test_models() -> None:
    """cortex-a57 is Armv8.0, default is max without what every call pays for."""
    models = vmmapi.cpu_models()
    assert list(models) == ["cortex-a57", "neoverse-n1", "default", "max"]
    assert named(models["cortex-a57"]) == V8_0
    assert named(models["max"]) == set(feat.NAMES) - {"PAuth_QARMA5"}
    assert named(models["default"]) == named(models["max"]) - {"PAuth", "BTI"}
    n1 = named(models["neoverse-n1"])
    assert V8_0 | {"LSE", "FP16", "DotProd", "RDM", "LRCPC", "PAN2", "UAO", "HAFDBS"} < n1
    assert not n1 & {"PAuth", "BTI", "SHA512", "FCMA", "I8MM", "RNG", "LRCPC2", "ECV"}


def test_models_are_closed() -> None:
    """No model has a feature without what it needs."""
    for features in vmmapi.cpu_models().values():
        for n, name in enumerate(feat.NAMES):
            if features >> n & 1:
                assert vmmapi.switch_feature(features, n, True) == features, name


@pytest.mark.parametrize(
    ("text", "there", "gone"),
    [
        ("cortex-a57,+sha3", {"SHA3", "SHA512"}, {"LSE"}),
        ("cortex-a57,+epan", {"EPAN", "PAN2", "PAN"}, {"UAO"}),
        ("default,-aes", set(), {"AES", "PMULL"}),
        ("default,-sha256", {"SHA3"} - {"SHA3"}, {"SHA256", "SHA1", "SHA512", "SHA3"}),
        ("default,-pan", {"UAO"}, {"PAN", "PAN2", "EPAN"}),
        ("default,+pauth-qarma5", {"PAuth", "PAuth_QARMA5"}, {"BTI"}),
        ("max,+pauth-qarma5,-pauth", {"BTI"}, {"PAuth", "PAuth_QARMA5"}),
        ("max,-sm4", set(), {"SM3", "SM4"}),
    ],
)
def test_switches(text: str, there: set[str], gone: set[str]) -> None:
    """What a feature needs comes with it; what needs it goes with it."""
    have = named(cpu.parse_cpu(text))
    assert there <= have
    assert not gone & have


def test_vm_keeps_its_set(vm_dir: Path) -> None:
    """A VM has the features it was created with, none included, also when opened again."""
    for n, text in enumerate(("cortex-a57", "max", "default,-lse")):
        VM.create(f"a{n}", features=cpu.parse_cpu(text)).close()
        with VM.open(f"a{n}") as vm:
            assert cpu.describe(vm.features()) == text
    with VM.create("none", features=0) as vm:
        assert vm.features() == 0
    with VM.create("some") as vm:
        assert cpu.describe(vm.features()) == "default"
