"""What the web role may do: read and write rows, never own, alter or empty a table."""

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

#: Tables in which the web role may not do everything, and what it may do.
RESTRICTED_TABLES = {
    "django_migrations": "SELECT",
    # History is append-only.
    "tenants_auditevent": "SELECT, INSERT",
    "tenants_accountevent": "SELECT, INSERT",
    # guardian falls back to these silently; grants belong in the tables that row security guards.
    "guardian_userobjectpermission": "SELECT, DELETE",
    "guardian_groupobjectpermission": "SELECT, DELETE",
}


def grant_to_web_role(owner: BaseDatabaseWrapper, web: BaseDatabaseWrapper) -> None:
    """Set the web role's rights on every table and sequence of the schema ``public``.

    It is done after each migration, from nothing, so that a right taken away here is taken
    away there. Without a role of its own (one role for both) there is nothing to grant.
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
