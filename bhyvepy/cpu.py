"""What the guest's CPU can do: `-o cpu=model[,+feature][,-feature]...`.

The models and the features, with what each needs, come from the core's own tables, so
that nothing can be asked for that is not there. Names are the Arm manual's in lower
case: `-o cpu=default,-lse,+pauth`. Not here: keeping the set with a VM (vmmapi.py).
"""

from __future__ import annotations

from bhyvepy.errors import ConfigError, printable
from bhyvepy.vmmapi import cpu_models, feature_names, switch_feature

DEFAULT = "default"


def parse_cpu(text: str) -> int:
    """The set of features that a value of `cpu` means, as a bit mask."""
    models, names = cpu_models(), feature_names()
    first, *rest = text.split(",")
    if first not in models:
        raise ConfigError(
            f"cpu: '{printable(first, 40)}' is not a model; there are {', '.join(models)}"
        )
    features = models[first]
    for word in rest:
        name = word[1:]
        if word[:1] not in ("+", "-") or name not in names:
            raise ConfigError(
                f"cpu: '{printable(word, 40)}' is not + or - and a feature;"
                f" there are {', '.join(sorted(names))}"
            )
        features = switch_feature(features, names.index(name), word[0] == "+")
    return features


def has_feature(features: int, name: str) -> bool:
    """Is a feature, by its name in -o cpu=, in a set?"""
    names = feature_names()
    return name in names and bool(features >> names.index(name) & 1)


def describe(features: int) -> str:
    """A set of features in the words of -o cpu=: the nearest model, and the difference."""
    names = feature_names()

    def away(model: int) -> int:
        return (model ^ features).bit_count()

    name, model = min(cpu_models().items(), key=lambda kv: (away(kv[1]), kv[0] != DEFAULT))
    words = [name]
    for n, feature in enumerate(names):
        if (model ^ features) >> n & 1:
            words.append(("+" if features >> n & 1 else "-") + feature)
    return ",".join(words)
