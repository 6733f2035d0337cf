-- What users did in the days before now: rows as the service writes them, busy in the afternoon, quiet at night and at
-- weekends, more of them from week to week. $days is replaced. Nobody can log in as one of these users: no password has
-- this hash.
SELECT setseed(0.42);

CREATE FUNCTION pg_temp.busy(t timestamptz) RETURNS float8 LANGUAGE sql AS $$
    SELECT (0.15 + 0.85 * exp(-1 * (((extract(epoch FROM t)::int8 % 86400) / 3600.0 - 15) / 4.5) ^ 2))
        * CASE WHEN extract(isodow FROM t AT TIME ZONE 'UTC') > 5 THEN 0.6 ELSE 1 END
        * (1 - 0.4 * extract(epoch FROM now() - t) / (86400.0 * $days))
$$;

-- So many moments as `a_day` wants, most of them when it is busy.
CREATE FUNCTION pg_temp.moments(a_day int) RETURNS SETOF timestamptz LANGUAGE sql AS $$
    SELECT t
    FROM (
        SELECT now() - random() * interval '$days days' AS t
        FROM generate_series(1, 4 * a_day * $days)
    ) AS candidates
    WHERE random() < pg_temp.busy(t)
    ORDER BY t
$$;

INSERT INTO users (email, username, full_name, hashed_password, last_login_at, created_at)
SELECT
    'history-' || n || '@example.com',
    'history-' || n,
    'A Driver',
    '$argon2id$v=19$m=19456,t=2,p=1$aGlzdG9yeWhpc3Rvcnk$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
    t,
    t
FROM pg_temp.moments(25) WITH ORDINALITY AS m (t, n);

-- Everything else is done by somebody who has signed up by then.
CREATE TEMP TABLE crowd AS
SELECT row_number() OVER (ORDER BY created_at, id) AS n, id, created_at FROM users WHERE username LIKE 'history-%';
CREATE INDEX ON crowd (n);
CREATE INDEX ON crowd (created_at);

CREATE FUNCTION pg_temp.somebody(t timestamptz) RETURNS bigint LANGUAGE sql AS $$
    SELECT id FROM crowd
    WHERE n = (SELECT 1 + floor(random() * count(*))::int8 FROM crowd AS early WHERE early.created_at <= t)
$$;

INSERT INTO search_history (user_id, search_type, search_criteria, result_count, created_at)
SELECT
    pg_temp.somebody(t),
    (ARRAY['quick', 'quick', 'quick', 'advanced', 'advanced', 'saved', 'recommended'])[1 + n % 7]::searchtype,
    '{}',
    CASE WHEN n % 23 = 0 THEN 0 ELSE 20 END,
    t
FROM pg_temp.moments(250) WITH ORDINALITY AS m (t, n);

INSERT INTO deals (
    user_id, vehicle_vin, vehicle_make, vehicle_model, vehicle_year, vehicle_mileage, asking_price, offer_price, status,
    status_changed_at, created_at, updated_at
)
SELECT
    somebody,
    vin,
    make,
    model,
    year,
    mileage,
    price,
    round(price * (0.86 + n % 13 / 100.0), 2),
    status,
    ended,
    t,
    ended
FROM (
    SELECT
        n,
        t,
        least(now(), t + interval '1 hour' * (2 + n % 90)) AS ended,
        (CASE
            WHEN t < now() - interval '4 days' THEN (ARRAY['completed', 'completed', 'cancelled'])[1 + n % 3]
            ELSE (ARRAY['pending', 'in_progress', 'in_progress', 'completed'])[1 + n % 4]
        END)::dealstatus AS status,
        pg_temp.somebody(t) AS somebody
    FROM pg_temp.moments(60) WITH ORDINALITY AS m (t, n)
) AS made
JOIN vehicles ON vehicles.vin = '1ADGX' || lpad((1 + n % 6000)::text, 12, '0')
WHERE somebody IS NOT NULL
ON CONFLICT DO NOTHING;

INSERT INTO negotiation_sessions (
    user_id, deal_id, status, current_round, target_price, user_offer, dealer_offer, agreed_price, finished_at,
    created_at
)
SELECT
    user_id,
    id,
    (CASE WHEN status IN ('completed', 'cancelled') THEN status::text ELSE 'active' END)::negotiationstatus,
    1 + id % 5,
    round(asking_price * 0.92, 2),
    offer_price,
    round(asking_price * 0.95, 2),
    CASE status WHEN 'completed' THEN offer_price END,
    CASE WHEN status IN ('completed', 'cancelled') THEN status_changed_at END,
    least(created_at + interval '10 minutes', status_changed_at)
FROM deals
WHERE id % 3 = 0
    AND status <> 'pending';

INSERT INTO negotiation_messages (session_id, role, content, offer, round_number, created_at)
SELECT
    s.id,
    role,
    CASE role WHEN 'user' THEN 'I offer less.' WHEN 'dealer_sim' THEN 'I can come down a little.' ELSE 'Wait.' END,
    CASE role WHEN 'user' THEN s.user_offer WHEN 'dealer_sim' THEN s.dealer_offer END,
    round,
    least(now(), s.created_at + round * interval '1 minute')
FROM negotiation_sessions AS s,
    generate_series(1, s.current_round) AS round,
    unnest(enum_range(NULL::messagerole)) AS role;

INSERT INTO ai_responses (user_id, deal_id, feature, prompt_type, model_used, llm_used, response_content, created_at)
SELECT user_id, deal_id, 'negotiation', 'negotiation_initial', 'rules', false, '{}', created_at
FROM negotiation_sessions;

INSERT INTO loan_applications (
    user_id, status, loan_amount, down_payment, loan_term_months, credit_score_range, annual_income, apr,
    monthly_payment, total_interest, total_amount, decision_reason, decided_at, created_at
)
SELECT
    somebody,
    status,
    20000,
    2500,
    60,
    'good',
    CASE WHEN status <> 'pending' THEN 60000 END,
    6.9,
    395.08,
    3704.80,
    23704.80,
    CASE WHEN status <> 'pending' THEN 'the payments against the income' END,
    CASE WHEN status <> 'pending' THEN t END,
    t
FROM (
    SELECT
        t,
        (ARRAY['approved', 'pre_approved', 'approved', 'rejected', 'pending'])[1 + n % 5]::loanstatus AS status,
        pg_temp.somebody(t) AS somebody
    FROM pg_temp.moments(30) WITH ORDINALITY AS m (t, n)
) AS filed
WHERE somebody IS NOT NULL;

INSERT INTO favorites (user_id, vehicle_id, created_at)
SELECT somebody, 1 + n % 6000, t
FROM (SELECT n, t, pg_temp.somebody(t) AS somebody FROM pg_temp.moments(40) WITH ORDINALITY AS m (t, n)) AS liked
WHERE somebody IS NOT NULL
ON CONFLICT DO NOTHING;
