"""What a process remembers does not grow without end."""

from tenants.bounded import BoundedDict


def test_the_oldest_key_is_forgotten_first() -> None:
    remembered: BoundedDict[int, str] = BoundedDict(3)
    for number in range(10):
        remembered.put(number, "first")
        remembered.put(number, str(number))
    assert [remembered.get(number) for number in range(6, 10)] == [None, "7", "8", "9"]
    assert 6 not in remembered and 7 in remembered


def test_a_key_can_be_forgotten_whether_it_is_there_or_not() -> None:
    remembered: BoundedDict[str, int] = BoundedDict(3)
    remembered.put("there", 1)
    remembered.discard("there")
    remembered.discard("never there")
    assert "there" not in remembered
