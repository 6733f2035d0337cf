-- The whole schema of the car-deal service. Ids are 64-bit identities, times are timestamptz, money is numeric(12,2)
-- in US dollars. `updated_at` and `version` are kept by a trigger, so that every writer keeps them, not only the service.

CREATE TYPE userrole          AS ENUM ('user', 'admin');
CREATE TYPE dealstatus        AS ENUM ('pending', 'in_progress', 'completed', 'cancelled');
CREATE TYPE negotiationstatus AS ENUM ('active', 'completed', 'cancelled');
CREATE TYPE messagerole       AS ENUM ('user', 'agent', 'dealer_sim');
CREATE TYPE loanstatus        AS ENUM ('pending', 'pre_approved', 'approved', 'rejected');
CREATE TYPE credittier        AS ENUM ('excellent', 'good', 'fair', 'poor');
CREATE TYPE searchtype        AS ENUM ('quick', 'advanced', 'saved', 'recommended');
CREATE TYPE evaluationstatus  AS ENUM ('analyzing', 'awaiting_input', 'completed');
CREATE TYPE pipelinestep      AS ENUM ('vehicle_condition', 'price', 'financing', 'risk', 'final');
CREATE TYPE webhookstatus     AS ENUM ('active', 'inactive', 'failed');
CREATE TYPE deliverystatus    AS ENUM ('pending', 'delivered', 'failed');
CREATE TYPE vehiclecondition  AS ENUM ('new', 'used', 'certified');

CREATE FUNCTION touch_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;

CREATE TABLE users (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email           varchar(254) NOT NULL CHECK (email = lower(email)),
    username        varchar(50)  NOT NULL,
    full_name       varchar(200),
    hashed_password text         NOT NULL,
    role            userrole     NOT NULL DEFAULT 'user',
    is_active       boolean      NOT NULL DEFAULT true,
    last_login_at   timestamptz,
    version         integer      NOT NULL DEFAULT 1,
    created_at      timestamptz  NOT NULL DEFAULT now(),
    updated_at      timestamptz  NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email_key ON users (email);
CREATE UNIQUE INDEX users_username_key ON users (lower(username));
CREATE INDEX users_created_at_idx ON users (created_at);
CREATE INDEX users_last_login_at_idx ON users (last_login_at);

-- Only a hash of the reset token is kept: who reads this table cannot reset a password.
CREATE TABLE password_resets (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    token_hash bytea       NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX password_resets_user_id_idx ON password_resets (user_id);

CREATE TABLE vehicles (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vin          varchar(17)      NOT NULL UNIQUE,
    make         varchar(100)     NOT NULL,
    model        varchar(100)     NOT NULL,
    trim         varchar(100),
    year         integer          NOT NULL CHECK (year BETWEEN 1900 AND 2100),
    body_type    varchar(50)      NOT NULL,
    condition    vehiclecondition NOT NULL,
    fuel_type    varchar(50)      NOT NULL,
    transmission varchar(50)      NOT NULL,
    color        varchar(50),
    mileage      integer          NOT NULL CHECK (mileage >= 0),
    price        numeric(12, 2)   NOT NULL CHECK (price > 0),
    location     varchar(255),
    listed       boolean          NOT NULL DEFAULT true,
    version      integer          NOT NULL DEFAULT 1,
    created_at   timestamptz      NOT NULL DEFAULT now(),
    updated_at   timestamptz      NOT NULL DEFAULT now()
);
CREATE INDEX vehicles_make_model_year_idx ON vehicles (lower(make), lower(model), year) WHERE listed;
CREATE INDEX vehicles_price_idx ON vehicles (price) WHERE listed;
CREATE INDEX vehicles_body_type_price_idx ON vehicles (body_type, price) WHERE listed;

-- A deal belongs to the user who made it. One user has at most one open deal on a vehicle; different users may compete.
CREATE TABLE deals (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id           bigint         NOT NULL REFERENCES users ON DELETE CASCADE,
    vehicle_vin       varchar(17)    NOT NULL,
    vehicle_make      varchar(100)   NOT NULL,
    vehicle_model     varchar(100)   NOT NULL,
    vehicle_year      integer        NOT NULL CHECK (vehicle_year BETWEEN 1900 AND 2100),
    vehicle_mileage   integer        NOT NULL DEFAULT 0 CHECK (vehicle_mileage >= 0),
    asking_price      numeric(12, 2) NOT NULL CHECK (asking_price > 0),
    offer_price       numeric(12, 2) CHECK (offer_price > 0),
    status            dealstatus     NOT NULL DEFAULT 'pending',
    notes             text,
    status_changed_at timestamptz    NOT NULL DEFAULT now(),
    version           integer        NOT NULL DEFAULT 1,
    created_at        timestamptz    NOT NULL DEFAULT now(),
    updated_at        timestamptz    NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX deals_open_vin_key ON deals (user_id, vehicle_vin) WHERE status IN ('pending', 'in_progress');
CREATE INDEX deals_user_id_idx ON deals (user_id, id DESC);
CREATE INDEX deals_status_created_at_idx ON deals (status, created_at);
CREATE INDEX deals_created_at_idx ON deals (created_at);

CREATE FUNCTION stamp_status_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.status_changed_at := clock_timestamp();
    RETURN NEW;
END
$$;
CREATE TRIGGER deals_stamp_status_change BEFORE UPDATE ON deals
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION stamp_status_change();

CREATE TABLE negotiation_sessions (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id       bigint            NOT NULL REFERENCES users ON DELETE CASCADE,
    deal_id       bigint            NOT NULL REFERENCES deals ON DELETE CASCADE,
    status        negotiationstatus NOT NULL DEFAULT 'active',
    current_round integer           NOT NULL DEFAULT 1 CHECK (current_round >= 1),
    max_rounds    integer           NOT NULL DEFAULT 10 CHECK (max_rounds BETWEEN 1 AND 50),
    target_price  numeric(12, 2)    CHECK (target_price > 0),
    user_offer    numeric(12, 2)    CHECK (user_offer > 0),
    dealer_offer  numeric(12, 2)    CHECK (dealer_offer > 0),
    agreed_price  numeric(12, 2)    CHECK (agreed_price > 0),
    finished_at   timestamptz,
    version       integer           NOT NULL DEFAULT 1,
    created_at    timestamptz       NOT NULL DEFAULT now(),
    updated_at    timestamptz       NOT NULL DEFAULT now(),
    CHECK ((status = 'active') = (finished_at IS NULL))
);
CREATE UNIQUE INDEX negotiation_sessions_active_deal_key ON negotiation_sessions (deal_id) WHERE status = 'active';
CREATE INDEX negotiation_sessions_deal_id_idx ON negotiation_sessions (deal_id);
CREATE INDEX negotiation_sessions_user_id_idx ON negotiation_sessions (user_id, id DESC);
CREATE INDEX negotiation_sessions_status_created_at_idx ON negotiation_sessions (status, created_at);

CREATE TABLE negotiation_messages (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id   bigint         NOT NULL REFERENCES negotiation_sessions ON DELETE CASCADE,
    role         messagerole    NOT NULL,
    content      text           NOT NULL,
    offer        numeric(12, 2) CHECK (offer > 0),
    round_number integer        NOT NULL CHECK (round_number >= 1),
    metadata     jsonb,
    created_at   timestamptz    NOT NULL DEFAULT now()
);
CREATE INDEX negotiation_messages_session_id_idx ON negotiation_messages (session_id, id);
CREATE INDEX negotiation_messages_created_at_idx ON negotiation_messages (created_at);

CREATE TABLE loan_applications (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id            bigint         NOT NULL REFERENCES users ON DELETE CASCADE,
    deal_id            bigint         REFERENCES deals ON DELETE CASCADE,
    status             loanstatus     NOT NULL DEFAULT 'pending',
    loan_amount        numeric(12, 2) NOT NULL CHECK (loan_amount > 0),
    down_payment       numeric(12, 2) NOT NULL DEFAULT 0 CHECK (down_payment >= 0),
    loan_term_months   integer        NOT NULL CHECK (loan_term_months BETWEEN 6 AND 120),
    credit_score_range credittier     NOT NULL,
    annual_income      numeric(12, 2) CHECK (annual_income >= 0),
    apr                numeric(6, 3)  NOT NULL CHECK (apr >= 0),
    monthly_payment    numeric(12, 2) NOT NULL CHECK (monthly_payment > 0),
    total_interest     numeric(12, 2) NOT NULL CHECK (total_interest >= 0),
    total_amount       numeric(12, 2) NOT NULL CHECK (total_amount > 0),
    decision_reason    text,
    decided_at         timestamptz,
    version            integer        NOT NULL DEFAULT 1,
    created_at         timestamptz    NOT NULL DEFAULT now(),
    updated_at         timestamptz    NOT NULL DEFAULT now(),
    CHECK ((status = 'pending') = (decided_at IS NULL))
);
CREATE INDEX loan_applications_user_id_idx ON loan_applications (user_id, id DESC);
CREATE INDEX loan_applications_deal_id_idx ON loan_applications (deal_id);
CREATE INDEX loan_applications_status_created_at_idx ON loan_applications (status, created_at);

-- Searches and model calls are statistics: they outlive the account that made them, without its name.
CREATE TABLE search_history (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id         bigint      REFERENCES users ON DELETE SET NULL,
    search_type     searchtype  NOT NULL,
    search_criteria jsonb       NOT NULL,
    result_count    integer     NOT NULL CHECK (result_count >= 0),
    top_vehicles    jsonb,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX search_history_user_id_idx ON search_history (user_id, id DESC);
CREATE INDEX search_history_created_at_idx ON search_history (created_at);

CREATE TABLE favorites (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    vehicle_id bigint      NOT NULL REFERENCES vehicles ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, vehicle_id)
);
CREATE INDEX favorites_vehicle_id_idx ON favorites (vehicle_id);

CREATE TABLE saved_searches (
    id                   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id              bigint       NOT NULL REFERENCES users ON DELETE CASCADE,
    name                 varchar(255) NOT NULL,
    search_criteria      jsonb        NOT NULL,
    notification_enabled boolean      NOT NULL DEFAULT true,
    last_checked_at      timestamptz,
    new_matches_count    integer      NOT NULL DEFAULT 0 CHECK (new_matches_count >= 0),
    version              integer      NOT NULL DEFAULT 1,
    created_at           timestamptz  NOT NULL DEFAULT now(),
    updated_at           timestamptz  NOT NULL DEFAULT now(),
    UNIQUE (user_id, name)
);

CREATE TABLE deal_evaluations (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id      bigint           NOT NULL REFERENCES users ON DELETE CASCADE,
    deal_id      bigint           NOT NULL REFERENCES deals ON DELETE CASCADE,
    status       evaluationstatus NOT NULL DEFAULT 'analyzing',
    current_step pipelinestep     NOT NULL DEFAULT 'vehicle_condition',
    result       jsonb,
    version      integer          NOT NULL DEFAULT 1,
    created_at   timestamptz      NOT NULL DEFAULT now(),
    updated_at   timestamptz      NOT NULL DEFAULT now()
);
CREATE INDEX deal_evaluations_deal_id_idx ON deal_evaluations (deal_id);
CREATE INDEX deal_evaluations_user_id_idx ON deal_evaluations (user_id);
CREATE INDEX deal_evaluations_status_idx ON deal_evaluations (status, current_step);

CREATE TABLE webhook_subscriptions (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id           bigint         NOT NULL REFERENCES users ON DELETE CASCADE,
    webhook_url       varchar(2048)  NOT NULL,
    secret_token      text           NOT NULL,
    status            webhookstatus  NOT NULL DEFAULT 'active',
    make              varchar(100),
    model             varchar(100),
    price_min         numeric(12, 2) CHECK (price_min >= 0),
    price_max         numeric(12, 2) CHECK (price_max >= 0),
    year_min          integer,
    year_max          integer,
    mileage_max       integer        CHECK (mileage_max >= 0),
    failure_count     integer        NOT NULL DEFAULT 0,
    last_triggered_at timestamptz,
    version           integer        NOT NULL DEFAULT 1,
    created_at        timestamptz    NOT NULL DEFAULT now(),
    updated_at        timestamptz    NOT NULL DEFAULT now()
);
CREATE INDEX webhook_subscriptions_user_id_idx ON webhook_subscriptions (user_id);
CREATE INDEX webhook_subscriptions_active_idx ON webhook_subscriptions (lower(make)) WHERE status = 'active';

CREATE TABLE webhook_deliveries (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id bigint         NOT NULL REFERENCES webhook_subscriptions ON DELETE CASCADE,
    payload         jsonb          NOT NULL,
    status          deliverystatus NOT NULL DEFAULT 'pending',
    attempts        integer        NOT NULL DEFAULT 0,
    next_attempt_at timestamptz    NOT NULL DEFAULT now(),
    response_status integer,
    created_at      timestamptz    NOT NULL DEFAULT now(),
    finished_at     timestamptz
);
CREATE INDEX webhook_deliveries_due_idx ON webhook_deliveries (next_attempt_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_subscription_id_idx ON webhook_deliveries (subscription_id);

CREATE TABLE ai_responses (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id           bigint         REFERENCES users ON DELETE SET NULL,
    deal_id           bigint         REFERENCES deals ON DELETE SET NULL,
    feature           varchar(50)    NOT NULL,
    prompt_type       varchar(100)   NOT NULL,
    model_used        varchar(100)   NOT NULL,
    llm_used          boolean        NOT NULL,
    prompt_tokens     integer        NOT NULL DEFAULT 0 CHECK (prompt_tokens >= 0),
    completion_tokens integer        NOT NULL DEFAULT 0 CHECK (completion_tokens >= 0),
    cost              numeric(14, 8) NOT NULL DEFAULT 0 CHECK (cost >= 0),
    response_content  jsonb          NOT NULL,
    created_at        timestamptz    NOT NULL DEFAULT now()
);
CREATE INDEX ai_responses_user_id_idx ON ai_responses (user_id);
CREATE INDEX ai_responses_deal_id_idx ON ai_responses (deal_id);
CREATE INDEX ai_responses_feature_created_at_idx ON ai_responses (feature, created_at);

CREATE TRIGGER users_touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch_row();
CREATE TRIGGER vehicles_touch BEFORE UPDATE ON vehicles FOR EACH ROW EXECUTE FUNCTION touch_row();
CREATE TRIGGER deals_touch BEFORE UPDATE ON deals FOR EACH ROW EXECUTE FUNCTION touch_row();
CREATE TRIGGER negotiation_sessions_touch BEFORE UPDATE ON negotiation_sessions FOR EACH ROW EXECUTE FUNCTION touch_row();
CREATE TRIGGER loan_applications_touch BEFORE UPDATE ON loan_applications FOR EACH ROW EXECUTE FUNCTION touch_row();
CREATE TRIGGER saved_searches_touch BEFORE UPDATE ON saved_searches FOR EACH ROW EXECUTE FUNCTION touch_row();
CREATE TRIGGER deal_evaluations_touch BEFORE UPDATE ON deal_evaluations FOR EACH ROW EXECUTE FUNCTION touch_row();
CREATE TRIGGER webhook_subscriptions_touch BEFORE UPDATE ON webhook_subscriptions FOR EACH ROW EXECUTE FUNCTION touch_row();
