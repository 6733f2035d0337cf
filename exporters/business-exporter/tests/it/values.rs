//! That the page says what SQL says.

use rstest::rstest;
use testkit::page::{promtool_findings, value};

use crate::support::{Definition, database, exporter, install, outcome, run, shipped};

const ROWS: &str = "
INSERT INTO users (email, username, hashed_password, is_active, last_login_at)
SELECT 'u' || i || '@example.org', 'u' || i, 'x', i % 3 <> 0,
       CASE WHEN i <= 2 THEN now() WHEN i <= 5 THEN now() - interval '3 hours' END
FROM generate_series(1, 9) AS i;
INSERT INTO deals (user_id, vehicle_vin, vehicle_make, vehicle_model, vehicle_year, asking_price, status, created_at)
SELECT 1, 'VIN' || i, 'Make', 'Model', 2020, 1000 * i,
       (CASE WHEN i <= 4 THEN 'pending' WHEN i <= 6 THEN 'completed' ELSE 'cancelled' END)::dealstatus,
       now() - i * interval '1 hour'
FROM generate_series(1, 7) AS i;
INSERT INTO negotiation_sessions (user_id, deal_id, created_at)
SELECT 2, id, now() - id * interval '20 hours' FROM deals WHERE status = 'pending';
INSERT INTO search_history (user_id, search_type, search_criteria, result_count)
SELECT 3, 'advanced', '{}', 0 FROM generate_series(1, 3);
INSERT INTO loan_applications (user_id, loan_amount, loan_term_months, credit_score_range, apr, monthly_payment,
                               total_interest, total_amount)
VALUES (4, 1, 12, 'good', 1, 1, 1, 1);
INSERT INTO deal_evaluations (user_id, deal_id, status, current_step) SELECT 1, id, 'completed', 'final' FROM deals";

#[rstest]
#[tokio::test]
async fn the_shipped_definition_says_what_the_tables_hold(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    install(&shipped(), &server).await?;
    let exporter = exporter(&shipped(), &server.dsn()).await?;
    let empty = exporter.scrape(10.0).await?;
    for status in ["pending", "in_progress", "completed", "cancelled"] {
        assert_eq!(value(&empty, "autodealgenie_deals", &[("status", status)])?, 0.0, "{status}");
    }
    assert!(empty.family("autodealgenie_last_event_timestamp_seconds").is_none(), "nothing happened yet");

    server.sql(ROWS).await?;
    let page = exporter.scrape(10.0).await?;
    assert!(
        page.samples("business_exporter_query_outcome").all(|sample| sample.label("outcome") == Some("ok"))
    );
    for (family, labels, truth) in [
        ("deals", &[("status", "pending")][..], "SELECT count(*) FROM deals WHERE status = 'pending'"),
        ("deals", &[("status", "completed")], "SELECT count(*) FROM deals WHERE status = 'completed'"),
        ("deals", &[("status", "in_progress")], "SELECT 0"),
        ("users", &[("state", "active")], "SELECT count(*) FROM users WHERE is_active"),
        ("users", &[("state", "inactive")], "SELECT count(*) FROM users WHERE NOT is_active"),
        ("active_users", &[("window", "15m")], "SELECT 4"),
        ("active_users", &[("window", "24h")], "SELECT 5"),
        ("negotiations", &[("status", "active")], "SELECT count(*) FROM negotiation_sessions"),
        ("stale_negotiation_sessions", &[], "SELECT 3"),
        ("loans", &[("status", "pending")], "SELECT count(*) FROM loan_applications"),
        ("deal_evaluations", &[("status", "completed"), ("step", "final")], "SELECT count(*) FROM deals"),
        ("deal_evaluations", &[("status", "analyzing"), ("step", "risk")], "SELECT 0"),
        (
            "last_event_timestamp_seconds",
            &[("entity", "deal")],
            "SELECT extract(epoch FROM max(created_at)) FROM deals",
        ),
    ] {
        let truth: f64 = server.psql(truth).await?.unwrap_or_default().parse()?;
        assert_eq!(value(&page, &format!("autodealgenie_{family}"), labels)?, truth, "{family} {labels:?}");
    }
    // In the background, so not on this page yet.
    let path = shipped().display().to_string();
    let once = run(&["--config", &path, "once"], Some(&server.dsn()))?;
    let once = testkit::page::parse(&String::from_utf8(once.stdout)?)?;
    for (stage, users) in [("signed_up", 9.0), ("searched", 1.0), ("deal", 1.0), ("completed", 1.0)] {
        assert_eq!(value(&once, "autodealgenie_funnel_users", &[("stage", stage)])?, users, "{stage}");
    }
    let age = value(&page, "autodealgenie_oldest_open_deal_age_seconds", &[("status", "pending")])?;
    let truth = "SELECT extract(epoch FROM now() - min(created_at)) FROM deals WHERE status = 'pending'";
    let later: f64 = server.psql(truth).await?.unwrap_or_default().parse()?;
    assert!(age >= 4.0 * 3600.0 && age <= later, "{age} {later}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn promtool_has_nothing_to_say_and_openmetrics_is_offered(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    install(&shipped(), &server).await?;
    server.sql(ROWS).await?;
    let exporter = exporter(&shipped(), &server.dsn()).await?;
    let text = exporter.get("/metrics").await?.text;
    assert_eq!(promtool_findings(&text).await?, Vec::<String>::new());
    let families =
        ["process_open_fds", "business_exporter_build_info", "business_exporter_config_info{hash="];
    for family in families {
        assert!(text.contains(family), "{family} is missing in {text}");
    }
    let request = testkit::http::Request::new(http::Method::GET, exporter.url("/metrics"))
        .header("accept", "application/openmetrics-text; version=1.0.0");
    let reply = exporter.send(request).await?;
    assert!(
        reply.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    assert!(reply.text.ends_with("# EOF\n"), "{}", reply.text);
    Ok(())
}

const LABELS: &str = "
version: 1
database: {name: shop}
families:
- {name: closed, type: gauge, help: A., labels: {k: {values: [a, b, z]}}, init: zero}
- {name: folded, type: gauge, help: A., labels: {k: {values: [a], other: rest}}}
- {name: first, type: gauge, help: A., labels: {k: {max: 2}}}
- {name: fixed, type: gauge, help: A., labels: [who, site]}
- {name: made_total, type: counter, help: A.}
- {name: zeroed, type: gauge, help: A., labels: [k]}
- {name: strict, type: gauge, help: A., labels: [k]}
- {name: twice, type: gauge, help: A.}
queries:
- name: kinds
  sql: SELECT * FROM (VALUES ('a', 1, NULL), ('b', 2, 'x'), ('c', 3, NULL), ('d', 4, NULL)) AS t (k, v, who)
  emit:
  - {family: closed, value: v, labels: [k]}
  - {family: folded, value: v, labels: [k]}
  - {family: first, value: v, labels: [k]}
  - {family: fixed, value: v, labels: [who: k], static_labels: {site: here}}
- {name: made, sql: SELECT 12.5::numeric AS v, emit: [{family: made_total, value: v}]}
- {name: nulls, sql: 'SELECT NULL AS k, NULL::int AS v', null_value: zero, emit: [{family: zeroed, value: v, labels: [k]}]}
- {name: no_nulls, sql: 'SELECT 1 AS k, NULL::int AS v', null_value: error, emit: [{family: strict, value: v, labels: [k]}]}
- {name: twice, sql: 'SELECT generate_series(1, 3) AS v', emit: [{family: twice, value: v}]}
";

#[rstest]
#[tokio::test]
async fn labels_keep_to_their_domains(#[values(13, 14, 15, 16, 17, 18)] major: u32) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    let exporter = Definition::new(LABELS)?.exporter(&server.dsn()).await?;
    exporter.scrape(10.0).await?;
    let page = exporter.scrape(10.0).await?;
    for (family, labels, expected) in [
        ("closed", &[("k", "a")][..], 1.0),
        ("closed", &[("k", "b")], 2.0),
        ("closed", &[("k", "z")], 0.0),
        ("folded", &[("k", "a")], 1.0),
        ("folded", &[("k", "rest")], 9.0),
        ("first", &[("k", "b")], 2.0),
        ("first", &[("k", "other")], 7.0),
        ("fixed", &[("who", "d"), ("site", "here")], 4.0),
        ("made_total", &[], 12.5),
        ("zeroed", &[("k", "unknown")], 0.0),
        ("twice", &[], 1.0),
        ("business_exporter_up", &[("database", "shop")], 1.0),
        ("business_exporter_query_rows", &[("query", "kinds")], 4.0),
        ("business_exporter_query_success", &[("query", "no_nulls")], 0.0),
        // Two in each of two scrapes.
        ("business_exporter_label_rejected_total", &[("family", "closed")], 4.0),
        ("business_exporter_label_rejected_total", &[("family", "folded")], 0.0),
        ("business_exporter_duplicate_samples_dropped_total", &[], 4.0),
    ] {
        assert_eq!(value(&page, family, labels)?, expected, "{family} {labels:?}");
    }
    assert_eq!(page.samples("closed").count(), 3);
    assert_eq!(page.samples("first").count(), 3);
    assert_eq!(outcome(&page, "no_nulls"), Some("error"));
    assert!(page.family("strict").is_none());
    Ok(())
}
