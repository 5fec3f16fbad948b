-- The two database roles of Bulkhead and its database, for PostgreSQL 15 to 18.
--
-- The embedded server runs this file by itself. On a server of your own, run it once as a
-- superuser, or as a role with CREATEROLE and CREATEDB:
--
--     psql --no-psqlrc --set ON_ERROR_STOP=1 --dbname postgres --file platform/postgres/roles.sql
--
-- and give both roles a password, with \password, which never sends it in clear:
--
--     \password bulkhead_owner
--     \password bulkhead_web
--
-- It may be run again at any time; it changes only what is missing.

-- The owner role owns the tables and changes their shape: only migrations use it. It may create
-- databases, because the tests make one of their own.
SELECT 'CREATE ROLE bulkhead_owner LOGIN CREATEDB'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bulkhead_owner') \gexec

-- The web role reads and writes rows. It owns nothing and is stopped by row-level security.
SELECT 'CREATE ROLE bulkhead_web LOGIN'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bulkhead_web') \gexec

-- A role that was there before may have too many rights. Taking rights away from somebody
-- else's role is not this file's business; going on would leave the wall open.
DO $$
DECLARE
    strong text;
BEGIN
    SELECT string_agg(rolname, ', ' ORDER BY rolname) INTO strong
      FROM pg_roles
     WHERE rolname IN ('bulkhead_owner', 'bulkhead_web')
       AND (rolsuper OR rolbypassrls OR rolreplication OR rolcreaterole
            OR rolname = 'bulkhead_web'
               AND (rolcreatedb OR pg_has_role(oid, 'bulkhead_owner', 'MEMBER')));
    IF strong IS NOT NULL THEN
        RAISE EXCEPTION 'Row-level security would not hold: % may do too much.', strong
            USING HINT = 'Neither role may have SUPERUSER, BYPASSRLS, REPLICATION or CREATEROLE; '
                         'bulkhead_web may not create databases nor be a member of bulkhead_owner.';
    END IF;
END
$$;

-- Managed services give out no superuser; there the creator must be a member of the owner role
-- to make a database for it.
SELECT 'GRANT bulkhead_owner TO CURRENT_USER'
 WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \gexec

SELECT 'CREATE DATABASE bulkhead OWNER bulkhead_owner TEMPLATE template0 ENCODING ''UTF8'''
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'bulkhead') \gexec

-- Nobody but the two roles gets in, and only the owner makes tables.
\connect bulkhead
SET ROLE bulkhead_owner;
REVOKE ALL ON DATABASE bulkhead FROM PUBLIC;
GRANT CONNECT ON DATABASE bulkhead TO bulkhead_web;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO bulkhead_web;
RESET ROLE;
