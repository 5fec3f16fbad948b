"""Kubernetes' quantities, read exactly: ``1500m`` is 3/2, ``16Gi`` is 17179869184.

They are read as the API server's own ``resource.ParseQuantity`` reads them, see
https://github.com/kubernetes/apimachinery/blob/master/pkg/api/resource/quantity.go. It takes any
number of digits and any decimal exponent, so ``1e400`` is a quantity; it rounds what is finer than
a nano away from zero; and what has a binary suffix ends at 2^63-1.
"""

import re
from decimal import Decimal
from fractions import Fraction

#: The factor of each suffix.
SUFFIXES: dict[str, Fraction] = {
    **{name: Fraction(10) ** (3 * power) for power, name in enumerate(("", *"kMGTPE"))},
    **{f"{name}i": Fraction(2) ** (10 * power) for power, name in enumerate("KMGTPE", start=1)},
    **{name: Fraction(1, 10 ** (3 * power)) for power, name in enumerate("mun", start=1)},
}
#: The smallest quantity; numbers are rounded to multiples of it, away from zero.
NANO = SUFFIXES["n"]
#: The largest quantity with a binary suffix; larger ones become this one.
MAX_BINARY = 2**63 - 1
# At most 1,000 digits on either side of the point and 3 in the exponent. Kubernetes has no such
# bounds, but Python takes quadratic time for the digits of a number and refuses more than 4,300.
QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]{1,1000}(?:\.[0-9]{0,1000})?|\.[0-9]{1,1000}))"
    r"(?:[eE](?P<exponent>[+-]?[0-9]{1,3})|(?P<suffix>[KMGTPE]i|[numkMGTPE])?)",
)
#: Numbers from here on are written with a power of ten.
MIN_SCIENTIFIC = 10**15


def parse(text: str) -> Fraction:
    """Return the number that a quantity stands for; raises ValueError for another text."""
    found = QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"“{text[:60]}” is no quantity.")
    suffix = found["suffix"] or ""
    scale = Fraction(10) ** int(found["exponent"]) if found["exponent"] else SUFFIXES[suffix]
    number = Fraction(found["number"]) * scale
    size = -(-abs(number) // NANO) * NANO
    if suffix.endswith("i"):
        size = min(size, Fraction(MAX_BINARY))
    return size if number >= 0 else -size


def write(number: Fraction) -> str:
    """Write a number with up to two decimals, as people read it: 1.5, 0.07, 12,000."""
    if 0 < number < Fraction(1, 200):
        return "less than 0.01"
    if abs(number) >= MIN_SCIENTIFIC:
        return f"{Decimal(round(number)):.2e}"
    return f"{float(number):,.2f}".rstrip("0").rstrip(".")
