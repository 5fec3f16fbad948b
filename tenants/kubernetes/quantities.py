"""Kubernetes' quantities, read exactly: ``1500m`` is 3/2, ``16Gi`` is 17179869184.

As https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ writes them.
"""

import re
from fractions import Fraction

#: What a suffix multiplies by.
SUFFIXES: dict[str, Fraction] = {
    **{name: Fraction(10) ** (3 * power) for power, name in enumerate(("", *"kMGTPE"))},
    **{f"{name}i": Fraction(2) ** (10 * power) for power, name in enumerate("KMGTPE", start=1)},
    **{name: Fraction(1, 10 ** (3 * power)) for power, name in enumerate("mun", start=1)},
}
# A cluster writes far fewer digits; more of them, or a larger exponent, would only cost time.
QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40}))"
    r"(?:[eE](?P<exponent>[+-]?[0-9]{1,2})|(?P<suffix>[KMGTPE]i|[numkMGTPE])?)",
)


def parse(text: str) -> Fraction:
    """Return the number that a quantity stands for; raises ValueError for what is none."""
    found = QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"“{text[:60]}” is no quantity.")
    scale = SUFFIXES[found["suffix"] or ""]
    if found["exponent"]:
        scale = Fraction(10) ** int(found["exponent"])
    return Fraction(found["number"]) * scale


def write(number: Fraction) -> str:
    """Write a number with up to two decimals, as people read it: 1.5, 0.07, 12,000."""
    if 0 < number < Fraction(1, 200):
        return "less than 0.01"
    return f"{float(number):,.2f}".rstrip("0").rstrip(".")
