"""The WSGI application of the private listener that API servers call; see ``serve_admission``."""

import io
import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "bulkhead.admission_settings"
application = get_wsgi_application()

# With a hole in a wall nothing is served: a privileged role, a table without its policies.
call_command("check", databases=["default"], stdout=io.StringIO())
