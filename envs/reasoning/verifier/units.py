"""Units and the words that may stand behind a number: which are harmless, and which are the same."""

from __future__ import annotations

import re
from collections import Counter


def word_set(text: str) -> frozenset[str]:
    """
    Split a text into its words.

    :param text: words with spaces between them
    """
    return frozenset(text.split())


_SYNONYMS = """
cm centimeter centimetre centimeters centimetres cms
mm millimeter millimetre millimeters millimetres
km kilometer kilometre kilometers kilometres kms
m meter metre meters metres
nm nanometer nanometers nanometre nanometres
in inch inches
ft foot feet
yd yard yards yds
mi mile miles
s sec secs second seconds
min minute minutes mins
h hr hrs hour hours
day days
week weeks wk
month months
year years yr yrs
g gram grams
kg kilogram kilograms kgs
mg milligram milligrams
lb lbs pound pounds
oz ounce ounces
l liter litre liters litres L
ml milliliter milliliters mL
deg degree degrees °
dollar dollars $ usd USD
cent cents ¢
euro euros €
percent percents % pct percentage
unit units
hz Hz hertz
n N newton newtons
j J joule joules
w W watt watts
pa Pa pascal pascals
v V volt volts
k K kelvin kelvins
c C celsius
mol mole moles
rad radian radians
mph
erg ergs
ev eV electronvolt electronvolts
"""
_CANONICAL = {name: line.split()[0] for line in _SYNONYMS.strip().splitlines() for name in line.split()}

BARE_UNITS = word_set(
    "cm mm km nm ft yd mi sec secs min mins hr hrs kg mg lb lbs oz ml mL deg mph mol rad Hz eV Pa cms kms yds days units unit inches "
    "inch feet foot miles hours minutes seconds meters degrees dollars cents percent square sq cubic per USD erg ergs mL"
)
"""Unit names that are read as units behind a number even outside ``\\text{…}``."""

MULTIPLIERS = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12, "hundreds": None,
    "thousands": None, "millions": None, "billions": None,
}  # fmt: skip
"""Words that multiply the number before them; ``None`` says that no value can be given."""

_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}

_NEVER_UNITS = word_set(
    "or and not minus negative plus times over divided less more than about around approximately maybe perhaps but if is isn isnt the "
    "are was to from half halves third thirds fourth fourths quarter quarters fifth fifths sixth sixths seventh eighth eighths ninth "
    "tenth tenths hundredth hundredths thousandth thousandths zero one two three four five six seven eight nine ten eleven twelve "
    "twenty thirty forty fifty sixty seventy eighty ninety wrong incorrect false never no none either neither nor except without any "
    "between factorial mod modulo base power root pi e i infinity infinite squareroot point opposite inverse reciprocal also other "
    "another otherwise possibly probably can could would should double triple twice thrice pair pairs score gross least most up down "
    "greater larger smaller off away million millions billion billions hundred hundreds thousand thousands trillion dozen "
    "different unknown random some all every each both "
    "ones tens dozens scores googol googols googolplex lakh lakhs crore crores myriad myriads grand bn mn tn mille permil permille "
    "promille basis bps bp repeating recurring doubled tripled quadrupled halved tenths inverted negated rounded truncated conjugate "
    "complement halfs wholes quadruple approx roughly nearly almost mil mils doz dz nil invalid rejected impossible untrue"
)
_NUMBER_WORDS = re.compile(
    r"(?:\w*(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf|teen|tie|hundred|thousand|illion|zero)|[nkm])ths?"
    r"|\w*illions?|\w+fold|ths"
)
"""Fractions (``sevenths``), large numbers (``quadrillion``) and multiples (``tenfold``)."""

Unit = tuple[tuple[str, int], ...]
"""Canonical unit: names with their powers, sorted."""
DEGREE: Unit = (("deg", 1),)
RADIAN: Unit = (("rad", 1),)


def canonical_unit(words: list[tuple[str, int]]) -> Unit | None:
    """
    Bring the words behind a number into a form in which equal units are equal.

    :param words: names with their powers, in the order written; ``("per", 0)`` inverts the next one
    :return: sorted names with powers, or ``None`` if a word can change the meaning of the number
    """
    if len(words) > 6 or any(_may_change_number(word) for word, _ in words):
        return None
    powers: Counter[str] = Counter()
    pending, sign = 1, 1
    for k, (word, power) in enumerate(words):
        lower = word.lower()
        if lower == "per" and [name.lower() for name, _ in words[k + 1 : k + 2]] == ["cent"]:
            word, lower = "percent", "percent"
        elif k and lower == "cent" and words[k - 1][0].lower() == "per":
            continue
        if lower == "per":
            sign = -1
        elif lower in ("square", "sq", "cubic", "cu"):
            pending = _POWERS[lower]
        elif lower in ("squared", "cubed"):
            if not powers:
                return None
            powers[list(powers)[-1]] *= _POWERS[lower]
        elif lower != "of":
            powers[_canonical_name(word)] += sign * power * pending
            pending, sign = 1, 1
    if powers.get("percent", 1) != 1:
        return None
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def _may_change_number(word: str) -> bool:
    # M is a million as often as it is mol per litre
    return word == "M" or word.lower() in _NEVER_UNITS or len(word) > 24 or _NUMBER_WORDS.fullmatch(word.lower()) is not None


def _canonical_name(word: str) -> str:
    lower = word.lower()
    plural = lower.endswith("s") and len(lower) > 3
    return _CANONICAL.get(word) or _CANONICAL.get(lower) or (lower[:-1] if plural else lower)
