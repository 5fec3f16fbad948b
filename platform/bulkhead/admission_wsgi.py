"""The WSGI application of the private listener that API servers call; see ``serve_admission``."""

import io
import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "bulkhead.admission_settings"
application = get_wsgi_application()

# Do not start if the isolation has a hole, such as a privileged role or a table without policies.
call_command("check", databases=["default"], stdout=io.StringIO())
