"""What a tenant's manifests may not say, and what looks for it in one object.

``home`` is always the namespaces of the object's tenant. Of others the same words are said, whether
they are another tenant's or nobody's.
"""
