"""The names of hosts and of what Kubernetes keeps."""

import re
from ipaddress import ip_address

#: An RFC 1123 label, as a namespace's name must be.
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
#: An RFC 1123 subdomain (labels joined by dots), as most other names must be.
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def is_label(name: str) -> bool:
    """Tell whether a namespace may have that name."""
    return LABEL.fullmatch(name) is not None


def is_subdomain(name: str) -> bool:
    """Tell whether a service account, or most other objects, may have that name."""
    return SUBDOMAIN.fullmatch(name) is not None and ".." not in name


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the address; a name could be anybody's."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
