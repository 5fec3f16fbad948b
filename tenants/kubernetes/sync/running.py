"""The live audit: what is wrong with the models of the workloads that run already.

Admission never sees what was there before a recall, or before the webhook.
"""

from collections.abc import Iterable

from tenants.documents import dict_of, list_of
from tenants.kubernetes.bundle.objects import Object
from tenants.kubernetes.workloads import Verdicts, problems_with, references_of
from tenants.text import clean

#: At most this many objects are looked at, models looked up and findings listed in one audit.
MAX_AUDITED_OBJECTS, MAX_AUDITED_MODELS, MAX_AUDIT_FINDINGS = 2000, 500, 200


def audit_workloads(objects: Iterable[Object]) -> list[dict[str, str]]:
    """Return what is wrong with the models of workloads: ``kind``, ``name`` and ``problem`` each.

    The objects are those of the acting tenant's namespace; those that have no pods any more are
    passed over. The audit ends after MAX_AUDITED_OBJECTS objects, MAX_AUDITED_MODELS models or
    MAX_AUDIT_FINDINGS findings, so that one namespace does not keep the others waiting; the last
    entry then says that it ended early.
    """
    verdicts: Verdicts = {}
    found: list[dict[str, str]] = []
    for count, obj in enumerate(objects):
        if (
            count >= MAX_AUDITED_OBJECTS
            or len(verdicts) >= MAX_AUDITED_MODELS
            or len(found) >= MAX_AUDIT_FINDINGS
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
