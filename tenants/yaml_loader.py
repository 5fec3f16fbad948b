"""The reader of YAML that others wrote: it makes texts, lists and mappings only, whatever they say.

No tag makes an object, and no word a number or a truth value; who needs those makes them of the
texts. It bounds nothing: aliases that multiply and nesting without end are for its callers to
refuse, and both of them do it while they read the events.
"""

import yaml

# The same reader in C where PyYAML has it: ten times as fast.
LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
