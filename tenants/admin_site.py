"""The Django admin's site and the base of its pages: for platform admins, writing by verbs."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from django.contrib import messages
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST, require_safe

from tenants.access import is_platform_admin
from tenants.context import my_teams
from tenants.kubernetes.pages import overview
from tenants.middleware import ADMIN_TEAM
from tenants.models import Tenant, User
from tenants.requests import is_here

if TYPE_CHECKING:
    AnyModelAdmin = ModelAdmin[Any]
else:
    AnyModelAdmin = ModelAdmin


#: Tenants on one page of namespaces; each costs several counting queries.
TENANTS_PER_PAGE = 25
#: The entry of the page about namespaces in the admin's list of models.
ISOLATION = {
    "name": "Isolation",
    "object_name": "Isolation",
    "perms": {"view": True},
    "add_url": None,
    "view_only": True,
}


def acting(request: HttpRequest) -> User:
    """Return the platform admin: the site lets nobody else in."""
    return cast(User, request.user)


class PlatformModelAdmin(AnyModelAdmin):
    """Pages whose filters are an allow-list and on which a verb's refusal is a message."""

    #: The errors by which verbs refuse; each becomes a message on the page.
    refusals: tuple[type[Exception], ...] = (ValidationError,)

    def object_actions(self, request: HttpRequest, obj: Any) -> dict[str, str]:
        """Return the actions that stand as buttons above ``obj``, with their labels."""
        return {}

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Let the address filter by what the page itself filters by, and by nothing else."""
        filters: list[Any] = [self.date_hierarchy, *self.get_list_filter(request)]
        filters = [item[0] if isinstance(item, tuple) else item for item in filters]
        names = {getattr(item, "parameter_name", item) for item in filters}
        field = lookup.split("__")[0]
        return field in names and super().lookup_allowed(lookup, value, request)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the buttons of those actions that the person may run."""
        if (obj := kwargs.get("obj")) is not None:
            allowed = self.get_actions(request)
            wanted = self.object_actions(request, obj)
            context["object_actions"] = {name: wanted[name] for name in wanted if name in allowed}
        return super().render_change_form(request, context, *args, **kwargs)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show or save the form."""
        view = super().changeform_view
        return self._or_message(request, lambda: view(request, *args, **kwargs))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list or run an action."""
        view = super().changelist_view
        return self._or_message(request, lambda: view(request, extra_context))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Ask, or delete."""
        view = super().delete_view
        return self._or_message(request, lambda: view(request, object_id, extra_context))

    def _or_message(self, request: HttpRequest, answer: Callable[[], HttpResponse]) -> HttpResponse:
        # The view's own transaction has been rolled back when the refusal arrives here.
        try:
            return answer()
        except self.refusals as refusal:
            if request.method != "POST":
                raise
            reasons = getattr(refusal, "messages", None) or [str(refusal)]
            for reason in reasons:
                self.message_user(request, reason, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())


class PlatformAdminSite(AdminSite):
    """Django's admin for platform admins, who sign in on the page that everybody signs in on."""

    site_header = site_title = "Bulkhead platform"
    index_title = "Platform"

    def has_permission(self, request: HttpRequest) -> bool:
        """Let platform admins in."""
        return is_platform_admin(request.user)

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[AnyModelAdmin] | None = None,
        **options: Any,
    ) -> None:
        """Register only pages made for this site: packages' own pages know nothing of tenants."""
        if admin_class is not None and issubclass(admin_class, PlatformModelAdmin):
            super().register(model_or_iterable, admin_class, **options)

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Send strangers to the sign-in page, which is throttled; there is none here."""
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied
        index = reverse("admin:index", current_app=self.name)
        if request.user.is_authenticated:
            return redirect(index)
        wanted = request.GET.get("next", index)
        return redirect_to_login(wanted if is_here(request, wanted) else index)

    def get_urls(self) -> list[URLResolver | URLPattern]:
        """Add the choice of a team, and drop “view on site”: it would look up any row by its id."""
        urls = [url for url in super().get_urls() if getattr(url, "name", "") != "view_on_site"]
        own = [
            path("team/", self.admin_view(self.choose_team), name="team"),
            path("isolation/", self.admin_view(self.isolation), name="isolation"),
        ]
        return [*own, *urls]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """List the page about namespaces beside those about tenants."""
        apps = super().get_app_list(request, app_label)
        for app in apps:
            if app["app_label"] == "tenants":
                address = reverse("admin:isolation", current_app=self.name)
                app["models"].append({**ISOLATION, "admin_url": address})
        return apps

    @method_decorator(require_safe)
    def isolation(self, request: HttpRequest) -> HttpResponse:
        """Show how all tenants' namespaces stand: states and numbers, and no team's names."""
        found = overview.standings(Tenant.objects.all())
        asked = request.GET.get("show", "")
        show = asked if asked in (*overview.GRAVEST_FIRST, overview.PROBLEMS) else ""
        page = Paginator(overview.chosen(found, show), TENANTS_PER_PAGE).get_page(
            request.GET.get("page")
        )
        context = {
            **self.each_context(request),
            "title": "Isolation",
            "totals": overview.totals(found),
            "labels": overview.GRAVEST_FIRST,
            "problems": len(overview.chosen(found, overview.PROBLEMS)),
            "show": show,
            "page": page,
            "rows": [overview.row_of(standing) for standing in page],
        }
        return TemplateResponse(request, "admin/isolation.html", context)

    @method_decorator(require_POST)
    def choose_team(self, request: HttpRequest) -> HttpResponse:
        """Act for another of one's own teams from now on, as long as one is in it."""
        slug = request.POST.get("team")
        if slug not in {membership.tenant.slug for membership in my_teams(request)}:
            raise Http404
        request.session[ADMIN_TEAM] = slug
        back = request.POST.get("next", "")
        return redirect(back if is_here(request, back) else "admin:index")
