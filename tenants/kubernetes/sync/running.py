"""The live audit: what is wrong with the models of the workloads that run already.

Admission never sees what was there before a recall, or before the webhook.
"""

from collections.abc import Iterable

from tenants.documents import dict_of, list_of
from tenants.kubernetes.bundle.objects import Object
from tenants.kubernetes.workloads import Verdicts, problems_with, references_of
from tenants.text import clean

#: What one live audit looks at, looks up and finds at most.
AUDITED_OBJECTS, AUDITED_MODELS, AUDIT_FINDINGS = 2000, 500, 200


def audit_workloads(objects: Iterable[Object]) -> list[dict[str, str]]:
    """Return what is wrong with the models of what runs: ``kind``, ``name`` and ``problem`` each.

    Admission never sees what was there before a recall, or before the webhook. It asks the same of
    the objects of the acting tenant's namespace, but for what has no pods any more. It ends after
    ``AUDITED_OBJECTS`` objects, ``AUDITED_MODELS`` names of models or ``AUDIT_FINDINGS`` findings,
    and the last entry says so: one namespace must not keep the others waiting.
    """
    verdicts: Verdicts = {}
    found: list[dict[str, str]] = []
    for count, obj in enumerate(objects):
        if (
            count >= AUDITED_OBJECTS
            or len(verdicts) >= AUDITED_MODELS
            or len(found) >= AUDIT_FINDINGS
        ):
            found.append(
                {"kind": "", "name": "", "problem": "There is more: not all was looked at."}
            )
            break
        if not _runs(obj):
            continue
        for problem in problems_with(references_of(obj), verdicts):
            name = clean(dict_of(obj.get("metadata")).get("name", ""))
            found.append(
                {"kind": clean(obj.get("kind", "")), "name": name, "problem": clean(problem)}
            )
    return found


def _runs(obj: Object) -> bool:
    """Tell whether the object has pods, or may have them without being changed."""
    spec, status = dict_of(obj.get("spec")), dict_of(obj.get("status"))
    conditions = status.get("conditions")
    is_over = status.get("phase") in ("Succeeded", "Failed") or any(
        dict_of(condition).get("type") in ("Complete", "Failed")
        and dict_of(condition).get("status") == "True"
        for condition in list_of(conditions)
    )
    return not (is_over or spec.get("replicas") == 0 or spec.get("suspend") is True)
