"""How much of a cluster a tenant may use: small, medium, large, or numbers of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models


class SizeName(models.TextChoices):
    """A tenant's size by its name."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Size:
    """What all pods and objects of a tenant may use together.

    Cores, memory and scratch space (ephemeral storage), in GiB, are what pods may request; their
    limits may add up to twice as much. GPUs are nvidia.com/gpu; storage, in GiB, is what all volume
    claims may request; the rest are numbers of objects.
    """

    cores: int
    memory: int
    scratch: int
    gpus: int
    pods: int
    volumes: int
    storage: int
    services: int
    secrets: int
    config_maps: int
    jobs: int
    deployments: int


SIZES: dict[str, Size] = {
    SizeName.SMALL: Size(
        cores=4,
        memory=16,
        scratch=20,
        gpus=0,
        pods=20,
        volumes=5,
        storage=100,
        services=10,
        secrets=50,
        config_maps=50,
        jobs=50,
        deployments=20,
    ),
    SizeName.MEDIUM: Size(
        cores=20,
        memory=64,
        scratch=100,
        gpus=2,
        pods=50,
        volumes=20,
        storage=500,
        services=25,
        secrets=100,
        config_maps=100,
        jobs=200,
        deployments=50,
    ),
    SizeName.LARGE: Size(
        cores=80,
        memory=256,
        scratch=400,
        gpus=8,
        pods=200,
        volumes=100,
        storage=5_000,
        services=100,
        secrets=400,
        config_maps=400,
        jobs=1_000,
        deployments=200,
    ),
}

#: The minimum of each number, if it is not 1. ConfigMaps, for example, may not be 0: the cluster
#: puts one of its own into each namespace.
MIN_NUMBERS = {"gpus": 0, "volumes": 0, "storage": 0, "services": 0, "secrets": 0, "jobs": 0}
MAX_NUMBER = 1_000_000
NUMBERS = tuple(field.name for field in fields(Size))
#: The label of each number, with its unit.
LABELS = {
    "cores": "CPU cores",
    "memory": "Memory in GiB",
    "scratch": "Scratch space in GiB",
    "gpus": "GPUs",
    "pods": "Pods",
    "volumes": "Volume claims",
    "storage": "Storage of volumes in GiB",
    "services": "Services",
    "secrets": "Secrets",
    "config_maps": "ConfigMaps",
    "jobs": "Jobs",
    "deployments": "Deployments",
}


def size_of(name: str, custom: Mapping[str, Any]) -> Size:
    """Return a tenant's size by its name; a custom one has a small size's numbers for the rest.

    Raises ValidationError for an unknown name and for malformed custom numbers.
    """
    if name == SizeName.CUSTOM:
        check_custom(custom)
        return replace(SIZES[SizeName.SMALL], **custom)
    if name not in SIZES:
        raise ValidationError(f"There is no size {name}.")
    return SIZES[name]


def check_custom(custom: Any) -> None:
    """Raise ValidationError unless these are whole numbers that a size has, by their names."""
    if not isinstance(custom, Mapping):
        raise ValidationError("A custom size is an object of numbers by their names.")
    unknown = sorted(str(name) for name in set(custom) - set(NUMBERS))
    if unknown:
        text = f"A size has no {', '.join(unknown)}; it has {', '.join(NUMBERS)}."
        raise ValidationError(text)
    if errors := wrong_numbers(custom):
        # Django's field validators must raise a list of messages, not errors by name.
        raise ValidationError([f"{name}: {text}" for name, text in errors.items()])


def wrong_numbers(custom: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with the numbers of a custom size, by their names."""
    return {
        name: f"Use a whole number from {MIN_NUMBERS.get(name, 1)} to {MAX_NUMBER:,}."
        for name, value in custom.items()
        if not _fits(name, value)
    }


def _fits(name: str, value: Any) -> bool:
    return type(value) is int and MIN_NUMBERS.get(name, 1) <= value <= MAX_NUMBER
