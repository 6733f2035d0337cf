-- Written by `business-exporter ddl --install`. Run it as the owner of the tables, once for
-- each change of the definition: psql --set ON_ERROR_STOP=1 --file …

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
CREATE SCHEMA IF NOT EXISTS business_exporter;
CREATE TABLE IF NOT EXISTS business_exporter.ledger (
    only_row          boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch             uuid        NOT NULL DEFAULT gen_random_uuid(),
    reason            text        NOT NULL DEFAULT 'installed',
    started_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    system_identifier bigint      NOT NULL
);
INSERT INTO business_exporter.ledger (system_identifier) SELECT system_identifier FROM pg_control_system()
ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS business_exporter.delta (
    family text    NOT NULL,
    labels text[]  NOT NULL,
    le     float8  NOT NULL,
    n      bigint  NOT NULL,
    s      numeric NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE TABLE IF NOT EXISTS business_exporter.total (
    family   text    NOT NULL,
    labels   text[]  NOT NULL,
    le       float8  NOT NULL,
    n        numeric NOT NULL,
    s        numeric NOT NULL,
    n_before numeric NOT NULL DEFAULT 0,
    s_before numeric NOT NULL DEFAULT 0,
    position bigint  NOT NULL GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (family, labels, le)
);

-- The rows of each stock that no counter explains, by value.
CREATE TABLE IF NOT EXISTS business_exporter.baseline (stock text PRIMARY KEY, rows jsonb NOT NULL);

-- Without triggers: ids up to which every row was counted, by table (see `business-exporter ddl --grants`).
CREATE TABLE IF NOT EXISTS business_exporter.watermark (
    source       text        PRIMARY KEY,
    turn         bigint      NOT NULL DEFAULT 0,
    settled      bigint      NOT NULL,
    settled_at   timestamptz,
    audits       bigint      NOT NULL DEFAULT 0,
    audited_at   timestamptz NOT NULL DEFAULT '-infinity',
    audited      bigint      NOT NULL DEFAULT 0,
    audited_rows bigint      NOT NULL DEFAULT 0,
    late         bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
-- An id that had been given out, and the transactions that may still bring a row at or below it.
CREATE TABLE IF NOT EXISTS business_exporter.barrier (
    source  text   NOT NULL,
    hi      bigint NOT NULL,
    holders text[] NOT NULL,
    PRIMARY KEY (source, hi)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
-- Rows above the watermark that were counted.
CREATE TABLE IF NOT EXISTS business_exporter.seen (
    source text   NOT NULL,
    id     bigint NOT NULL,
    PRIMARY KEY (source, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE OR REPLACE FUNCTION business_exporter.move() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH taken AS (DELETE FROM business_exporter.delta RETURNING family, labels, le, n, s)
    INSERT INTO business_exporter.total AS t (family, labels, le, n, s)
    SELECT family, labels, le, sum(n), sum(s) FROM taken GROUP BY family, labels, le ORDER BY family, labels, le
    ON CONFLICT (family, labels, le) DO UPDATE SET n = t.n + excluded.n, s = t.s + excluded.s
$$;

-- Starts every series again at 0, unless somebody did since the epoch that the caller saw.
CREATE OR REPLACE FUNCTION business_exporter.restart(seen uuid, why text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('business_exporter', 0));
    UPDATE business_exporter.ledger
    SET epoch = gen_random_uuid(), reason = why, started_at = clock_timestamp(),
        system_identifier = (SELECT c.system_identifier FROM pg_control_system() AS c)
    WHERE epoch = seen;
    IF FOUND THEN
        PERFORM business_exporter.move();
        UPDATE business_exporter.total SET n_before = n, s_before = s;
    END IF;
END
$$;

-- One at a time; who comes second has nothing to do. A ledger that was restored into another server is restarted.
CREATE OR REPLACE FUNCTION business_exporter.fold() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_try_advisory_xact_lock(hashtextextended('business_exporter', 0)) THEN
        PERFORM business_exporter.restart(l.epoch, 'lineage')
        FROM business_exporter.ledger AS l, pg_control_system() AS c WHERE c.system_identifier <> l.system_identifier;
        PERFORM business_exporter.move();
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION business_exporter.truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    VALUES ('business_exporter_table_truncated_total', ARRAY[TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME], 'Infinity', 1, 1);
    RETURN NULL;
END
$$;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT count(*) AS ai_answered FROM (
    WITH new_rows AS (SELECT * FROM "public"."ai_responses" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT 'autodealgenie_llm_requests_total' AS family, ARRAY[coalesce((n.model_used
)::text, 'unknown'), coalesce((n.prompt_type
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n WHERE (n.llm_used
)
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_llm_tokens_used_total' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_llm_tokens_used_total'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[coalesce((n.model_used
)::text, 'unknown'), coalesce(('prompt'
)::text, 'unknown')]::text[] AS labels, (n.prompt_tokens
)::numeric AS value FROM new_rows AS n WHERE (n.llm_used
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_llm_tokens_used_total' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_llm_tokens_used_total'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[coalesce((n.model_used
)::text, 'unknown'), coalesce(('completion'
)::text, 'unknown')]::text[] AS labels, (n.completion_tokens
)::numeric AS value FROM new_rows AS n WHERE (n.llm_used
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_llm_cost_usd_total' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_llm_cost_usd_total'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[coalesce((n.model_used
)::text, 'unknown')]::text[] AS labels, (n.cost
)::numeric AS value FROM new_rows AS n WHERE (n.llm_used
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT 'autodealgenie_llm_fallback_total' AS family, ARRAY[coalesce((n.feature
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n WHERE (NOT n.llm_used
)) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_ai_answered() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT 'autodealgenie_llm_requests_total' AS family, ARRAY[coalesce((n.model_used
)::text, 'unknown'), coalesce((n.prompt_type
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n WHERE (n.llm_used
)
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_llm_tokens_used_total' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_llm_tokens_used_total'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[coalesce((n.model_used
)::text, 'unknown'), coalesce(('prompt'
)::text, 'unknown')]::text[] AS labels, (n.prompt_tokens
)::numeric AS value FROM new_rows AS n WHERE (n.llm_used
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_llm_tokens_used_total' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_llm_tokens_used_total'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[coalesce((n.model_used
)::text, 'unknown'), coalesce(('completion'
)::text, 'unknown')]::text[] AS labels, (n.completion_tokens
)::numeric AS value FROM new_rows AS n WHERE (n.llm_used
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_llm_cost_usd_total' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_llm_cost_usd_total'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[coalesce((n.model_used
)::text, 'unknown')]::text[] AS labels, (n.cost
)::numeric AS value FROM new_rows AS n WHERE (n.llm_used
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT 'autodealgenie_llm_fallback_total' AS family, ARRAY[coalesce((n.feature
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n WHERE (NOT n.llm_used
)
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event ai_answered was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['ai_answered'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event ai_answered was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
DO $do$
BEGIN
    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid = '"public"."ai_responses"'::regclass
        AND tgname IN ('business_exporter_insert_ai_answered', 'business_exporter_truncate') AND tgenabled = 'A') < 2 THEN
        LOCK TABLE "public"."ai_responses" IN SHARE ROW EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."ai_responses"'::regclass
            AND tgname = 'business_exporter_insert_ai_answered') THEN
            CREATE TRIGGER business_exporter_insert_ai_answered AFTER INSERT ON "public"."ai_responses" REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_ai_answered();
        END IF;
        ALTER TABLE "public"."ai_responses" ENABLE ALWAYS TRIGGER business_exporter_insert_ai_answered;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."ai_responses"'::regclass
            AND tgname = 'business_exporter_truncate') THEN
            CREATE TRIGGER business_exporter_truncate AFTER TRUNCATE ON "public"."ai_responses" FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.truncated();
        END IF;
        ALTER TABLE "public"."ai_responses" ENABLE ALWAYS TRIGGER business_exporter_truncate;
    END IF;
END
$do$;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT count(*) AS deal_created FROM (
    WITH new_rows AS (SELECT * FROM "public"."deals" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT 'autodealgenie_deals_created_total' AS family, ARRAY[coalesce((n.status
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_deal_asking_price_usd' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_deal_asking_price_usd'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 5000 THEN 5000 WHEN value <= 10000 THEN 10000 WHEN value <= 15000 THEN 15000 WHEN value <= 20000 THEN 20000 WHEN value <= 30000 THEN 30000 WHEN value <= 40000 THEN 40000 WHEN value <= 60000 THEN 60000 WHEN value <= 100000 THEN 100000 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[]::text[] AS labels, (n.asking_price
)::numeric AS value FROM new_rows AS n) AS valued
            WHERE value IS NOT NULL
        ) AS judged) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_deal_created() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT 'autodealgenie_deals_created_total' AS family, ARRAY[coalesce((n.status
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_deal_asking_price_usd' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_deal_asking_price_usd'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 5000 THEN 5000 WHEN value <= 10000 THEN 10000 WHEN value <= 15000 THEN 15000 WHEN value <= 20000 THEN 20000 WHEN value <= 30000 THEN 30000 WHEN value <= 40000 THEN 40000 WHEN value <= 60000 THEN 60000 WHEN value <= 100000 THEN 100000 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[]::text[] AS labels, (n.asking_price
)::numeric AS value FROM new_rows AS n) AS valued
            WHERE value IS NOT NULL
        ) AS judged
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event deal_created was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['deal_created'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event deal_created was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
SELECT count(*) AS deal_status_changed FROM (
    WITH old_rows AS (SELECT * FROM "public"."deals" WHERE false), new_rows AS (SELECT * FROM "public"."deals" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT 'autodealgenie_deal_status_transitions_total' AS family, ARRAY[coalesce((o.status
)::text, 'unknown'), coalesce((n.status
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status IS DISTINCT FROM n.status
)) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_deal_status_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT 'autodealgenie_deal_status_transitions_total' AS family, ARRAY[coalesce((o.status
)::text, 'unknown'), coalesce((n.status
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status IS DISTINCT FROM n.status
)
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event deal_status_changed was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['deal_status_changed'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event deal_status_changed was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
SELECT count(*) AS deal_completed FROM (
    WITH old_rows AS (SELECT * FROM "public"."deals" WHERE false), new_rows AS (SELECT * FROM "public"."deals" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT CASE WHEN fine THEN 'autodealgenie_deal_time_to_close_seconds' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_deal_time_to_close_seconds'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 300 THEN 300 WHEN value <= 3600 THEN 3600 WHEN value <= 14400 THEN 14400 WHEN value <= 86400 THEN 86400 WHEN value <= 259200 THEN 259200 WHEN value <= 604800 THEN 604800 WHEN value <= 1209600 THEN 1209600 WHEN value <= 2592000 THEN 2592000 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[]::text[] AS labels, (greatest(0, extract(epoch FROM now() - n.created_at))
)::numeric AS value FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status <> 'completed' AND n.status = 'completed'
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_deal_closed_price_usd' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_deal_closed_price_usd'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 5000 THEN 5000 WHEN value <= 10000 THEN 10000 WHEN value <= 15000 THEN 15000 WHEN value <= 20000 THEN 20000 WHEN value <= 30000 THEN 30000 WHEN value <= 40000 THEN 40000 WHEN value <= 60000 THEN 60000 WHEN value <= 100000 THEN 100000 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[]::text[] AS labels, (n.offer_price
)::numeric AS value FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status <> 'completed' AND n.status = 'completed'
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_deal_discount_ratio' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_deal_discount_ratio'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 0 THEN 0 WHEN value <= 0.02 THEN 0.02 WHEN value <= 0.05 THEN 0.05 WHEN value <= 0.08 THEN 0.08 WHEN value <= 0.1 THEN 0.1 WHEN value <= 0.15 THEN 0.15 WHEN value <= 0.2 THEN 0.2 WHEN value <= 0.3 THEN 0.3 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[]::text[] AS labels, (greatest(0, 1 - n.offer_price / n.asking_price)
)::numeric AS value FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status <> 'completed' AND n.status = 'completed'
) AND (n.offer_price IS NOT NULL
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_deal_completed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT CASE WHEN fine THEN 'autodealgenie_deal_time_to_close_seconds' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_deal_time_to_close_seconds'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 300 THEN 300 WHEN value <= 3600 THEN 3600 WHEN value <= 14400 THEN 14400 WHEN value <= 86400 THEN 86400 WHEN value <= 259200 THEN 259200 WHEN value <= 604800 THEN 604800 WHEN value <= 1209600 THEN 1209600 WHEN value <= 2592000 THEN 2592000 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[]::text[] AS labels, (greatest(0, extract(epoch FROM now() - n.created_at))
)::numeric AS value FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status <> 'completed' AND n.status = 'completed'
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_deal_closed_price_usd' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_deal_closed_price_usd'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 5000 THEN 5000 WHEN value <= 10000 THEN 10000 WHEN value <= 15000 THEN 15000 WHEN value <= 20000 THEN 20000 WHEN value <= 30000 THEN 30000 WHEN value <= 40000 THEN 40000 WHEN value <= 60000 THEN 60000 WHEN value <= 100000 THEN 100000 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[]::text[] AS labels, (n.offer_price
)::numeric AS value FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status <> 'completed' AND n.status = 'completed'
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_deal_discount_ratio' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_deal_discount_ratio'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 0 THEN 0 WHEN value <= 0.02 THEN 0.02 WHEN value <= 0.05 THEN 0.05 WHEN value <= 0.08 THEN 0.08 WHEN value <= 0.1 THEN 0.1 WHEN value <= 0.15 THEN 0.15 WHEN value <= 0.2 THEN 0.2 WHEN value <= 0.3 THEN 0.3 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[]::text[] AS labels, (greatest(0, 1 - n.offer_price / n.asking_price)
)::numeric AS value FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status <> 'completed' AND n.status = 'completed'
) AND (n.offer_price IS NOT NULL
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event deal_completed was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['deal_completed'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event deal_completed was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
SELECT count(*) AS deal_deleted FROM (
    WITH old_rows AS (SELECT * FROM "public"."deals" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT 'autodealgenie_deals_deleted_total' AS family, ARRAY[coalesce((o.status
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM old_rows AS o) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_deal_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT 'autodealgenie_deals_deleted_total' AS family, ARRAY[coalesce((o.status
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM old_rows AS o
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event deal_deleted was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['deal_deleted'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event deal_deleted was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
DO $do$
BEGIN
    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid = '"public"."deals"'::regclass
        AND tgname IN ('business_exporter_insert_deal_created', 'business_exporter_update_deal_status_changed', 'business_exporter_update_deal_completed', 'business_exporter_delete_deal_deleted', 'business_exporter_truncate') AND tgenabled = 'A') < 5
        OR NOT EXISTS (SELECT FROM business_exporter.baseline WHERE stock = 'public.deals.status') THEN
        LOCK TABLE "public"."deals" IN SHARE ROW EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."deals"'::regclass
            AND tgname = 'business_exporter_insert_deal_created') THEN
            CREATE TRIGGER business_exporter_insert_deal_created AFTER INSERT ON "public"."deals" REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_deal_created();
        END IF;
        ALTER TABLE "public"."deals" ENABLE ALWAYS TRIGGER business_exporter_insert_deal_created;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."deals"'::regclass
            AND tgname = 'business_exporter_update_deal_status_changed') THEN
            CREATE TRIGGER business_exporter_update_deal_status_changed AFTER UPDATE ON "public"."deals" REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_deal_status_changed();
        END IF;
        ALTER TABLE "public"."deals" ENABLE ALWAYS TRIGGER business_exporter_update_deal_status_changed;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."deals"'::regclass
            AND tgname = 'business_exporter_update_deal_completed') THEN
            CREATE TRIGGER business_exporter_update_deal_completed AFTER UPDATE ON "public"."deals" REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_deal_completed();
        END IF;
        ALTER TABLE "public"."deals" ENABLE ALWAYS TRIGGER business_exporter_update_deal_completed;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."deals"'::regclass
            AND tgname = 'business_exporter_delete_deal_deleted') THEN
            CREATE TRIGGER business_exporter_delete_deal_deleted AFTER DELETE ON "public"."deals" REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_deal_deleted();
        END IF;
        ALTER TABLE "public"."deals" ENABLE ALWAYS TRIGGER business_exporter_delete_deal_deleted;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."deals"'::regclass
            AND tgname = 'business_exporter_truncate') THEN
            CREATE TRIGGER business_exporter_truncate AFTER TRUNCATE ON "public"."deals" FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.truncated();
        END IF;
        ALTER TABLE "public"."deals" ENABLE ALWAYS TRIGGER business_exporter_truncate;
        INSERT INTO business_exporter.baseline (stock, rows)
            SELECT 'public.deals.status', coalesce(jsonb_object_agg(value, n), '{}')
            FROM (SELECT value, sum(n) AS n
                  FROM ((SELECT coalesce("status"::text, 'unknown') AS value, count(*)::numeric AS n FROM "public"."deals" GROUP BY 1) UNION ALL SELECT value, -n FROM (WITH everything AS (SELECT family, labels, n FROM business_exporter.total UNION ALL SELECT family, labels, n FROM business_exporter.delta) SELECT value, sum(n) AS n FROM (SELECT labels[1] AS value, n AS n FROM everything WHERE family = 'autodealgenie_deals_created_total' UNION ALL SELECT labels[2] AS value, n AS n FROM everything WHERE family = 'autodealgenie_deal_status_transitions_total' UNION ALL SELECT labels[1] AS value, -n AS n FROM everything WHERE family = 'autodealgenie_deal_status_transitions_total' UNION ALL SELECT labels[1] AS value, -n AS n FROM everything WHERE family = 'autodealgenie_deals_deleted_total') AS parts GROUP BY value) AS counted) AS compared
                  GROUP BY value) AS unexplained
            ON CONFLICT (stock) DO UPDATE SET rows = excluded.rows;
    END IF;
END
$do$;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT count(*) AS favorite_added FROM (
    WITH new_rows AS (SELECT * FROM "public"."favorites" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT 'autodealgenie_favorites_added_total' AS family, ARRAY[]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_favorite_added() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT 'autodealgenie_favorites_added_total' AS family, ARRAY[]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event favorite_added was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['favorite_added'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event favorite_added was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
DO $do$
BEGIN
    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid = '"public"."favorites"'::regclass
        AND tgname IN ('business_exporter_insert_favorite_added', 'business_exporter_truncate') AND tgenabled = 'A') < 2 THEN
        LOCK TABLE "public"."favorites" IN SHARE ROW EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."favorites"'::regclass
            AND tgname = 'business_exporter_insert_favorite_added') THEN
            CREATE TRIGGER business_exporter_insert_favorite_added AFTER INSERT ON "public"."favorites" REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_favorite_added();
        END IF;
        ALTER TABLE "public"."favorites" ENABLE ALWAYS TRIGGER business_exporter_insert_favorite_added;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."favorites"'::regclass
            AND tgname = 'business_exporter_truncate') THEN
            CREATE TRIGGER business_exporter_truncate AFTER TRUNCATE ON "public"."favorites" FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.truncated();
        END IF;
        ALTER TABLE "public"."favorites" ENABLE ALWAYS TRIGGER business_exporter_truncate;
    END IF;
END
$do$;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT count(*) AS loan_filed FROM (
    WITH new_rows AS (SELECT * FROM "public"."loan_applications" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT 'autodealgenie_loan_applications_total' AS family, ARRAY[coalesce((n.status
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_loan_amount_usd' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_loan_amount_usd'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 5000 THEN 5000 WHEN value <= 10000 THEN 10000 WHEN value <= 15000 THEN 15000 WHEN value <= 20000 THEN 20000 WHEN value <= 30000 THEN 30000 WHEN value <= 40000 THEN 40000 WHEN value <= 60000 THEN 60000 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[]::text[] AS labels, (n.loan_amount
)::numeric AS value FROM new_rows AS n) AS valued
            WHERE value IS NOT NULL
        ) AS judged) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_loan_filed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT 'autodealgenie_loan_applications_total' AS family, ARRAY[coalesce((n.status
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_loan_amount_usd' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_loan_amount_usd'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 5000 THEN 5000 WHEN value <= 10000 THEN 10000 WHEN value <= 15000 THEN 15000 WHEN value <= 20000 THEN 20000 WHEN value <= 30000 THEN 30000 WHEN value <= 40000 THEN 40000 WHEN value <= 60000 THEN 60000 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[]::text[] AS labels, (n.loan_amount
)::numeric AS value FROM new_rows AS n) AS valued
            WHERE value IS NOT NULL
        ) AS judged
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event loan_filed was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['loan_filed'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event loan_filed was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
DO $do$
BEGIN
    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid = '"public"."loan_applications"'::regclass
        AND tgname IN ('business_exporter_insert_loan_filed', 'business_exporter_truncate') AND tgenabled = 'A') < 2 THEN
        LOCK TABLE "public"."loan_applications" IN SHARE ROW EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."loan_applications"'::regclass
            AND tgname = 'business_exporter_insert_loan_filed') THEN
            CREATE TRIGGER business_exporter_insert_loan_filed AFTER INSERT ON "public"."loan_applications" REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_loan_filed();
        END IF;
        ALTER TABLE "public"."loan_applications" ENABLE ALWAYS TRIGGER business_exporter_insert_loan_filed;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."loan_applications"'::regclass
            AND tgname = 'business_exporter_truncate') THEN
            CREATE TRIGGER business_exporter_truncate AFTER TRUNCATE ON "public"."loan_applications" FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.truncated();
        END IF;
        ALTER TABLE "public"."loan_applications" ENABLE ALWAYS TRIGGER business_exporter_truncate;
    END IF;
END
$do$;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT count(*) AS negotiation_message FROM (
    WITH new_rows AS (SELECT * FROM "public"."negotiation_messages" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT 'autodealgenie_negotiation_messages_total' AS family, ARRAY[coalesce((n.role
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_negotiation_message() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT 'autodealgenie_negotiation_messages_total' AS family, ARRAY[coalesce((n.role
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event negotiation_message was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['negotiation_message'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event negotiation_message was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
DO $do$
BEGIN
    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid = '"public"."negotiation_messages"'::regclass
        AND tgname IN ('business_exporter_insert_negotiation_message', 'business_exporter_truncate') AND tgenabled = 'A') < 2 THEN
        LOCK TABLE "public"."negotiation_messages" IN SHARE ROW EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."negotiation_messages"'::regclass
            AND tgname = 'business_exporter_insert_negotiation_message') THEN
            CREATE TRIGGER business_exporter_insert_negotiation_message AFTER INSERT ON "public"."negotiation_messages" REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_negotiation_message();
        END IF;
        ALTER TABLE "public"."negotiation_messages" ENABLE ALWAYS TRIGGER business_exporter_insert_negotiation_message;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."negotiation_messages"'::regclass
            AND tgname = 'business_exporter_truncate') THEN
            CREATE TRIGGER business_exporter_truncate AFTER TRUNCATE ON "public"."negotiation_messages" FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.truncated();
        END IF;
        ALTER TABLE "public"."negotiation_messages" ENABLE ALWAYS TRIGGER business_exporter_truncate;
    END IF;
END
$do$;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT count(*) AS negotiation_begun FROM (
    WITH new_rows AS (SELECT * FROM "public"."negotiation_sessions" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT 'autodealgenie_negotiation_sessions_total' AS family, ARRAY[]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_negotiation_begun() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT 'autodealgenie_negotiation_sessions_total' AS family, ARRAY[]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event negotiation_begun was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['negotiation_begun'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event negotiation_begun was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
SELECT count(*) AS negotiation_ended FROM (
    WITH old_rows AS (SELECT * FROM "public"."negotiation_sessions" WHERE false), new_rows AS (SELECT * FROM "public"."negotiation_sessions" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT CASE WHEN fine THEN 'autodealgenie_negotiation_duration_seconds' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_negotiation_duration_seconds'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 10 THEN 10 WHEN value <= 30 THEN 30 WHEN value <= 60 THEN 60 WHEN value <= 120 THEN 120 WHEN value <= 300 THEN 300 WHEN value <= 600 THEN 600 WHEN value <= 1800 THEN 1800 WHEN value <= 3600 THEN 3600 WHEN value <= 14400 THEN 14400 WHEN value <= 86400 THEN 86400 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[coalesce((n.status
)::text, 'unknown')]::text[] AS labels, (greatest(0, extract(epoch FROM n.finished_at - n.created_at))
)::numeric AS value FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status = 'active' AND n.status <> 'active'
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_negotiation_rounds' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_negotiation_rounds'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 1 THEN 1 WHEN value <= 2 THEN 2 WHEN value <= 3 THEN 3 WHEN value <= 4 THEN 4 WHEN value <= 5 THEN 5 WHEN value <= 7 THEN 7 WHEN value <= 10 THEN 10 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[coalesce((n.status
)::text, 'unknown')]::text[] AS labels, (n.current_round
)::numeric AS value FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status = 'active' AND n.status <> 'active'
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_negotiation_ended() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT CASE WHEN fine THEN 'autodealgenie_negotiation_duration_seconds' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_negotiation_duration_seconds'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 10 THEN 10 WHEN value <= 30 THEN 30 WHEN value <= 60 THEN 60 WHEN value <= 120 THEN 120 WHEN value <= 300 THEN 300 WHEN value <= 600 THEN 600 WHEN value <= 1800 THEN 1800 WHEN value <= 3600 THEN 3600 WHEN value <= 14400 THEN 14400 WHEN value <= 86400 THEN 86400 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[coalesce((n.status
)::text, 'unknown')]::text[] AS labels, (greatest(0, extract(epoch FROM n.finished_at - n.created_at))
)::numeric AS value FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status = 'active' AND n.status <> 'active'
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
        UNION ALL
        SELECT CASE WHEN fine THEN 'autodealgenie_negotiation_rounds' ELSE 'business_exporter_values_refused_total' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['autodealgenie_negotiation_rounds'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8 WHEN value <= 1 THEN 1 WHEN value <= 2 THEN 2 WHEN value <= 3 THEN 3 WHEN value <= 4 THEN 4 WHEN value <= 5 THEN 5 WHEN value <= 7 THEN 7 WHEN value <= 10 THEN 10 ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < 1e300::numeric AS fine
            FROM (SELECT ARRAY[coalesce((n.status
)::text, 'unknown')]::text[] AS labels, (n.current_round
)::numeric AS value FROM old_rows AS o JOIN new_rows AS n ON n."id" = o."id" WHERE (o.status = 'active' AND n.status <> 'active'
)) AS valued
            WHERE value IS NOT NULL
        ) AS judged
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event negotiation_ended was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['negotiation_ended'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event negotiation_ended was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
DO $do$
BEGIN
    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid = '"public"."negotiation_sessions"'::regclass
        AND tgname IN ('business_exporter_insert_negotiation_begun', 'business_exporter_update_negotiation_ended', 'business_exporter_truncate') AND tgenabled = 'A') < 3 THEN
        LOCK TABLE "public"."negotiation_sessions" IN SHARE ROW EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."negotiation_sessions"'::regclass
            AND tgname = 'business_exporter_insert_negotiation_begun') THEN
            CREATE TRIGGER business_exporter_insert_negotiation_begun AFTER INSERT ON "public"."negotiation_sessions" REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_negotiation_begun();
        END IF;
        ALTER TABLE "public"."negotiation_sessions" ENABLE ALWAYS TRIGGER business_exporter_insert_negotiation_begun;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."negotiation_sessions"'::regclass
            AND tgname = 'business_exporter_update_negotiation_ended') THEN
            CREATE TRIGGER business_exporter_update_negotiation_ended AFTER UPDATE ON "public"."negotiation_sessions" REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_negotiation_ended();
        END IF;
        ALTER TABLE "public"."negotiation_sessions" ENABLE ALWAYS TRIGGER business_exporter_update_negotiation_ended;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."negotiation_sessions"'::regclass
            AND tgname = 'business_exporter_truncate') THEN
            CREATE TRIGGER business_exporter_truncate AFTER TRUNCATE ON "public"."negotiation_sessions" FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.truncated();
        END IF;
        ALTER TABLE "public"."negotiation_sessions" ENABLE ALWAYS TRIGGER business_exporter_truncate;
    END IF;
END
$do$;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT count(*) AS vehicles_searched FROM (
    WITH new_rows AS (SELECT * FROM "public"."search_history" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT 'autodealgenie_vehicle_searches_total' AS family, ARRAY[coalesce((n.search_type
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n
        UNION ALL
        SELECT 'autodealgenie_vehicle_searches_empty_total' AS family, ARRAY[]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n WHERE (n.result_count = 0
)) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_vehicles_searched() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT 'autodealgenie_vehicle_searches_total' AS family, ARRAY[coalesce((n.search_type
)::text, 'unknown')]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n
        UNION ALL
        SELECT 'autodealgenie_vehicle_searches_empty_total' AS family, ARRAY[]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n WHERE (n.result_count = 0
)
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event vehicles_searched was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['vehicles_searched'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event vehicles_searched was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
DO $do$
BEGIN
    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid = '"public"."search_history"'::regclass
        AND tgname IN ('business_exporter_insert_vehicles_searched', 'business_exporter_truncate') AND tgenabled = 'A') < 2 THEN
        LOCK TABLE "public"."search_history" IN SHARE ROW EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."search_history"'::regclass
            AND tgname = 'business_exporter_insert_vehicles_searched') THEN
            CREATE TRIGGER business_exporter_insert_vehicles_searched AFTER INSERT ON "public"."search_history" REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_vehicles_searched();
        END IF;
        ALTER TABLE "public"."search_history" ENABLE ALWAYS TRIGGER business_exporter_insert_vehicles_searched;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."search_history"'::regclass
            AND tgname = 'business_exporter_truncate') THEN
            CREATE TRIGGER business_exporter_truncate AFTER TRUNCATE ON "public"."search_history" FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.truncated();
        END IF;
        ALTER TABLE "public"."search_history" ENABLE ALWAYS TRIGGER business_exporter_truncate;
    END IF;
END
$do$;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT count(*) AS user_signed_up FROM (
    WITH new_rows AS (SELECT * FROM "public"."users" WHERE false)
    SELECT family, labels, le, value FROM (
        SELECT 'autodealgenie_user_signups_total' AS family, ARRAY[]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n) AS events
) AS checked;
CREATE OR REPLACE FUNCTION business_exporter.event_user_signed_up() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $business_exporter$
BEGIN
    INSERT INTO business_exporter.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM (
        SELECT 'autodealgenie_user_signups_total' AS family, ARRAY[]::text[] AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM new_rows AS n
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event user_signed_up was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO business_exporter.delta (family, labels, le, n, s)
        VALUES ('business_exporter_event_errors_total', ARRAY['user_signed_up'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event user_signed_up was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$business_exporter$;
DO $do$
BEGIN
    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid = '"public"."users"'::regclass
        AND tgname IN ('business_exporter_insert_user_signed_up', 'business_exporter_truncate') AND tgenabled = 'A') < 2 THEN
        LOCK TABLE "public"."users" IN SHARE ROW EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."users"'::regclass
            AND tgname = 'business_exporter_insert_user_signed_up') THEN
            CREATE TRIGGER business_exporter_insert_user_signed_up AFTER INSERT ON "public"."users" REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.event_user_signed_up();
        END IF;
        ALTER TABLE "public"."users" ENABLE ALWAYS TRIGGER business_exporter_insert_user_signed_up;
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '"public"."users"'::regclass
            AND tgname = 'business_exporter_truncate') THEN
            CREATE TRIGGER business_exporter_truncate AFTER TRUNCATE ON "public"."users" FOR EACH STATEMENT EXECUTE FUNCTION business_exporter.truncated();
        END IF;
        ALTER TABLE "public"."users" ENABLE ALWAYS TRIGGER business_exporter_truncate;
    END IF;
END
$do$;
COMMIT;

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
DO $do$
DECLARE
    stale record;
BEGIN
    FOR stale IN
        SELECT t.tgname, t.tgrelid::regclass AS relation
        FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE p.pronamespace = 'business_exporter'::regnamespace AND NOT t.tgisinternal
            AND NOT EXISTS (SELECT FROM (VALUES ('business_exporter_insert_deal_created', '"public"."deals"'), ('business_exporter_truncate', '"public"."deals"'), ('business_exporter_update_deal_status_changed', '"public"."deals"'), ('business_exporter_truncate', '"public"."deals"'), ('business_exporter_update_deal_completed', '"public"."deals"'), ('business_exporter_truncate', '"public"."deals"'), ('business_exporter_delete_deal_deleted', '"public"."deals"'), ('business_exporter_truncate', '"public"."deals"'), ('business_exporter_insert_user_signed_up', '"public"."users"'), ('business_exporter_truncate', '"public"."users"'), ('business_exporter_insert_loan_filed', '"public"."loan_applications"'), ('business_exporter_truncate', '"public"."loan_applications"'), ('business_exporter_insert_vehicles_searched', '"public"."search_history"'), ('business_exporter_truncate', '"public"."search_history"'), ('business_exporter_insert_favorite_added', '"public"."favorites"'), ('business_exporter_truncate', '"public"."favorites"'), ('business_exporter_insert_negotiation_begun', '"public"."negotiation_sessions"'), ('business_exporter_truncate', '"public"."negotiation_sessions"'), ('business_exporter_update_negotiation_ended', '"public"."negotiation_sessions"'), ('business_exporter_truncate', '"public"."negotiation_sessions"'), ('business_exporter_insert_negotiation_message', '"public"."negotiation_messages"'), ('business_exporter_truncate', '"public"."negotiation_messages"'), ('business_exporter_insert_ai_answered', '"public"."ai_responses"'), ('business_exporter_truncate', '"public"."ai_responses"')) AS k (name, relation)
                            WHERE k.name = t.tgname AND to_regclass(k.relation) = t.tgrelid)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', stale.tgname, stale.relation);
    END LOOP;
    FOR stale IN
        SELECT p.oid::regprocedure AS routine FROM pg_proc AS p
        WHERE p.pronamespace = 'business_exporter'::regnamespace AND p.proname LIKE 'event\_%'
            AND p.proname NOT IN ('event_deal_created', 'event_deal_status_changed', 'event_deal_completed', 'event_deal_deleted', 'event_user_signed_up', 'event_loan_filed', 'event_vehicles_searched', 'event_favorite_added', 'event_negotiation_begun', 'event_negotiation_ended', 'event_negotiation_message', 'event_ai_answered', '')
    LOOP
        EXECUTE format('DROP FUNCTION %s', stale.routine);
    END LOOP;
END
$do$;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA business_exporter FROM PUBLIC;
COMMIT;
-- Written by `business-exporter ddl --grants`. What queries read is not in here.
GRANT USAGE ON SCHEMA business_exporter TO "business";
GRANT SELECT ON business_exporter.ledger, business_exporter.total, business_exporter.delta, business_exporter.baseline TO "business";
GRANT EXECUTE ON FUNCTION business_exporter.fold(), business_exporter.restart(uuid, text) TO "business";
GRANT SELECT ("status") ON "public"."deals" TO "business";
