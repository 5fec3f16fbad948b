"""What the private listener answers to API servers; no address of it is one of the public site."""

from django.urls import path

from tenants.kubernetes.admission import admission
from tenants.kubernetes.bundle.webhook import PATH

handler400 = "bulkhead.errors.plain_bad_request"
handler404 = "bulkhead.errors.plain_not_found"
handler500 = "bulkhead.errors.plain_server_error"

urlpatterns = [path(PATH.removeprefix("/"), admission, name="kubernetes_admission")]
