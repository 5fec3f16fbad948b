"""What is run in a client's process: the scenarios that its test asks for."""

from tests.clients import beside, doors, life, pods, readme, search
from tests.clients.talk import run

run(
    {
        "register": life.register,
        "stage": life.stage,
        "load": life.load,
        "change": life.change,
        "search": search.search,
        "refusals": doors.refusals,
        "tokens": doors.tokens,
        "teams": doors.teams,
        "prompts": doors.prompts,
        "readme": readme.readme,
        "beside": beside.beside,
        "pod": pods.pod,
    }
)
