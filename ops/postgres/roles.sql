-- Two roles, each with no more than it needs. To be run by an administrator, in chatrelay's own database; safe to repeat.
--
--   psql "postgresql://postgres@host/chatrelay" -v ON_ERROR_STOP=1 \
--     -v owner_password="$OWNER_PASSWORD" -v app_password="$APP_PASSWORD" -f ops/postgres/roles.sql
--
-- chatrelay_owner  owns the tables; `chatrelay migrate` (the process `release`) connects as it, nobody else
-- chatrelay_app    reads and writes rows; every other process and the command line connect as it
--
-- Tables that another role has made before are handed over once:  REASSIGN OWNED BY that_role TO chatrelay_owner;

SELECT format('CREATE ROLE %I', name)
  FROM unnest(ARRAY['chatrelay_owner', 'chatrelay_app']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

ALTER ROLE chatrelay_owner LOGIN NOCREATEDB NOCREATEROLE PASSWORD :'owner_password';
ALTER ROLE chatrelay_app LOGIN NOCREATEDB NOCREATEROLE PASSWORD :'app_password';

-- an administrator who is no superuser may say what the owner's tables grant only as a member
GRANT chatrelay_owner TO CURRENT_USER;

REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO chatrelay_owner, chatrelay_app;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO chatrelay_owner;
GRANT USAGE ON SCHEMA public TO chatrelay_app;

-- the tables that there are, and those that later migrations make
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO chatrelay_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO chatrelay_app;
ALTER DEFAULT PRIVILEGES FOR ROLE chatrelay_owner IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO chatrelay_app;
ALTER DEFAULT PRIVILEGES FOR ROLE chatrelay_owner IN SCHEMA public
  GRANT USAGE, SELECT ON SEQUENCES TO chatrelay_app;

-- which revision the schema is at is the owner's to say; takes hold once there is one, so repeat this file after the first migration
SELECT 'REVOKE INSERT, UPDATE, DELETE ON public.alembic_version FROM chatrelay_app'
 WHERE to_regclass('public.alembic_version') IS NOT NULL
\gexec
