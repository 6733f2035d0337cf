-- What the queries of exporters/business-exporter/config/autodealgenie.yml read, column by column: nothing personal and no
-- password. Run by the owner of the tables after each migration.
\set ON_ERROR_STOP on
GRANT SELECT (id, is_active, last_login_at, created_at) ON users TO business;
GRANT SELECT (user_id, status, created_at) ON deals TO business;
GRANT SELECT (user_id, created_at) ON search_history TO business;
GRANT SELECT (id, user_id, status, created_at) ON negotiation_sessions TO business;
GRANT SELECT (session_id, created_at) ON negotiation_messages TO business;
GRANT SELECT (user_id, status, created_at) ON loan_applications TO business;
GRANT SELECT (user_id) ON favorites TO business;
GRANT SELECT (status, current_step) ON deal_evaluations TO business;
REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM backend;
