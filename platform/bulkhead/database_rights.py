"""What the web role may do: read and write rows, never own, alter or empty a table."""

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

#: The web role's rights in tables where it may not do everything.
RESTRICTED_TABLES = {
    "django_migrations": "SELECT",
    # Audit events are append-only.
    "tenants_auditevent": "SELECT, INSERT",
    "tenants_accountevent": "SELECT, INSERT",
    # guardian silently falls back to its generic tables, which have no row-level security; without
    # INSERT such a grant fails instead.
    "guardian_userobjectpermission": "SELECT, DELETE",
    "guardian_groupobjectpermission": "SELECT, DELETE",
}


def grant_to_web_role(owner: BaseDatabaseWrapper, web: BaseDatabaseWrapper) -> None:
    """Set the web role's rights on every table and sequence of the schema ``public``.

    It runs after each migration and revokes everything first, so that a right that is removed here
    is removed in the database. If web and owner are one role, nothing is done.
    """
    role = sql.Identifier(web.settings_dict["USER"])
    if web.settings_dict["USER"] == owner.settings_dict["USER"]:
        return
    with owner.cursor() as cursor:
        cursor.execute(
            "SELECT tablename FROM pg_tables"
            " WHERE schemaname = 'public' AND tableowner = current_user"
        )
        tables = [row[0] for row in cursor.fetchall()]
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role))
        for table in tables:
            rights = sql.SQL(RESTRICTED_TABLES.get(table, "SELECT, INSERT, UPDATE, DELETE"))
            name = sql.Identifier("public", table)
            cursor.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(name, role))
            cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(rights, name, role))
        cursor.execute(
            sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}").format(role)
        )
