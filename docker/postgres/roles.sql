-- Run once by the image, as superuser, when there are no data yet. Every role has what it needs and no more: the owner makes
-- tables, the backend reads and writes rows, the exporters read what they show. Passwords come from the files of secrets.
\set ON_ERROR_STOP on
\set owner `sed 's|.*://[^:]*:\([^@]*\)@.*|\1|' /run/secrets/owner_database_url`
\set backend `sed 's|.*://[^:]*:\([^@]*\)@.*|\1|' /run/secrets/backend_database_url`
\set business `sed 's|.*://[^:]*:\([^@]*\)@.*|\1|' /run/secrets/business_database_url`
\set monitor `cat /run/secrets/monitor_password`

CREATE ROLE autodealgenie LOGIN PASSWORD :'owner';
CREATE ROLE backend LOGIN PASSWORD :'backend';
CREATE ROLE business LOGIN PASSWORD :'business' CONNECTION LIMIT 4;

-- What `pg-exporter grants` prints for the collectors of docker-compose.yml.
CREATE ROLE monitor LOGIN PASSWORD :'monitor' CONNECTION LIMIT 3;
GRANT pg_read_all_settings TO monitor;
GRANT pg_read_all_stats TO monitor;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO monitor;

REVOKE ALL ON DATABASE autodealgenie, postgres, template1 FROM PUBLIC;
ALTER DATABASE autodealgenie OWNER TO autodealgenie;
GRANT CONNECT ON DATABASE autodealgenie TO backend, business, monitor;

ALTER DEFAULT PRIVILEGES FOR ROLE autodealgenie IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO backend;
ALTER DEFAULT PRIVILEGES FOR ROLE autodealgenie IN SCHEMA public GRANT USAGE ON SEQUENCES TO backend;
