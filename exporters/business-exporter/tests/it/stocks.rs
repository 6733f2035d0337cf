//! Counters and rows agree: stocks, sums, and the definition that is shipped.

use exposition::Page;
use rstest::rstest;
use testkit::page::value;

use crate::shop::{SHOP, TABLES, shop};
use crate::support::{Definition, Expected, database, exporter, failure, install, run, server, shipped};

#[rstest]
#[tokio::test]
async fn stocks_are_compared_with_their_counters(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server.sql(TABLES).await?;
    // Rows from before.
    server.sql("INSERT INTO items SELECT i, 'a', 1, 'ada' FROM generate_series(1, 10) AS i").await?;
    let stock = "stocks: [{table: public.items, by: kind, created: made_total, moved: moved_total, deleted: gone_total}]";
    let text = SHOP.replace("fold_interval: 0s", "fold_interval: 0s, reconcile_interval: 0s");
    let text = format!("{text}{stock}\n")
        .replace("{kind: {values: [a], other: rest}}", "{kind: {enum: public.kind}}");
    let definition = Definition::new(&text)?;
    definition.install(&server).await?;
    let exporter = definition.exporter(&server.dsn()).await?;
    let drift = |page: &Page, value: &str| {
        page.value("business_exporter_ledger_drift_rows", &[("stock", "public.items.kind"), ("value", value)])
    };
    let compare = || definition.run(&["reconcile"], Some(&server.dsn()));
    server
        .sql(
            "INSERT INTO items SELECT i, 'b', 1, 'ada' FROM generate_series(11, 15) AS i;
             UPDATE items SET kind = 'b' WHERE id <= 3; DELETE FROM items WHERE id IN (1, 15)",
        )
        .await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((drift(&page, "a"), drift(&page, "b")), (Some(0.0), Some(0.0)));
    let output = compare()?;
    let said = String::from_utf8(output.stdout.clone())?;
    assert!(output.status.success(), "{said} {:?}", failure(&output));
    assert!(said.contains("public.items.kind=b rows=6 counted=6 drift=0"), "{said}");

    server
        .sql(
            "ALTER TABLE items DISABLE TRIGGER business_exporter_insert_made;
             INSERT INTO items VALUES (20, 'b', 1, 'ada'), (21, 'b', 1, 'ada')",
        )
        .await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((drift(&page, "a"), drift(&page, "b")), (Some(0.0), Some(2.0)));
    let (code, message) = failure(&compare()?);
    assert_eq!((code, message.contains("1 stocks differ")), (Some(1), true), "{message}");

    // What was missed is taken as having been there.
    definition.install(&server).await?;
    assert_eq!(drift(&exporter.scrape(10.0).await?, "b"), Some(0.0));
    server.sql("INSERT INTO items VALUES (22, 'b', 1, 'ada')").await?;
    assert!(compare()?.status.success());
    Ok(())
}

/// Sums of prices with many digits, in whatever parts they are folded, neither fall nor lose anything.
#[rstest]
#[tokio::test]
async fn sums_are_exact_in_whatever_order(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = shop(major).await? else { return Ok(()) };
    let exporter = definition.exporter(&server.dsn()).await?;
    let (rows, mut last) = (if testkit::full() { 1_000_000 } else { 100_000 }, 0.0);
    let mut next = 100;
    while next < rows {
        let end = next + rand::random_range(1..rows / 20);
        let price = "(random() * 10 ^ (random() * 12 - 6))::float8::numeric";
        server
            .sql(&format!(
                "INSERT INTO items SELECT i, 'a', {price}, 'ada' FROM generate_series({next}, {end}) AS i"
            ))
            .await?;
        next = end + 1;
        let sum = value(&exporter.scrape(30.0).await?, "price_sum", &[])?;
        assert!(sum >= last, "{sum} after {last}");
        last = sum;
    }
    let truth: f64 = server.psql("SELECT sum(price) FROM items").await?.unwrap_or_default().parse()?;
    assert_eq!(last, truth);
    Ok(())
}

/// What happens to AutoDealGenie's tables, and what the shipped definition makes of it.
const LIFE: &str = "
INSERT INTO users (email, username, hashed_password) VALUES ('a@example.org', 'a', 'x'), ('b@example.org', 'b', 'x');
INSERT INTO deals (user_id, vehicle_vin, vehicle_make, vehicle_model, vehicle_year, asking_price, offer_price)
SELECT 1 + i % 2, 'VIN' || i, 'Make', 'Model', 2020, 10000 * i, 9000 * i FROM generate_series(1, 5) AS i;
UPDATE deals SET status = 'in_progress' WHERE id <= 3;
UPDATE deals SET status = 'completed' WHERE id <= 2;
INSERT INTO negotiation_sessions (user_id, deal_id) SELECT 1, id FROM deals;
INSERT INTO negotiation_messages (session_id, role, content, round_number) VALUES (1, 'user', 'x', 1), (1, 'agent', 'y', 1);
UPDATE negotiation_sessions SET status = 'completed', finished_at = created_at + interval '45 s', current_round = 3 WHERE id = 1;
INSERT INTO loan_applications (user_id, status, loan_amount, loan_term_months, credit_score_range, apr, monthly_payment,
                               total_interest, total_amount, decided_at)
VALUES (1, 'approved', 12000, 12, 'good', 1, 1, 1, 1, now());
INSERT INTO search_history (user_id, search_type, search_criteria, result_count) VALUES (1, 'quick', '{}', 0), (1, 'saved', '{}', 3);
INSERT INTO vehicles (vin, make, model, year, body_type, condition, fuel_type, transmission, mileage, price)
VALUES ('V', 'M', 'M', 2020, 'suv', 'used', 'gas', 'auto', 1, 1);
INSERT INTO favorites (user_id, vehicle_id) SELECT 2, id FROM vehicles;
INSERT INTO ai_responses (feature, prompt_type, model_used, llm_used, prompt_tokens, completion_tokens, cost, response_content)
VALUES ('negotiation', 'reply', 'large', true, 100, 20, 0.0125, '{}'), ('negotiation', 'reply', 'rules', false, 0, 0, 0, '{}');
DELETE FROM users WHERE id = 2";

#[rstest]
#[tokio::test]
async fn the_shipped_definition_counts_what_happens(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    install(&shipped(), &server).await?;
    let exporter = exporter(&shipped(), &server.dsn()).await?;
    exporter.scrape(10.0).await?;
    server.sql(LIFE).await?;
    // Values of labels that have a maximum are folded first, and 0 once.
    exporter.scrape(10.0).await?;
    exporter.scrape(10.0).await?;
    let page = exporter.scrape(10.0).await?;
    let counted: &[Expected<'_>] = &[
        ("deals_created_total", &[("status", "pending")], 5.0),
        ("deals_created_total", &[("status", "completed")], 0.0),
        ("deal_status_transitions_total", &[("from", "pending"), ("to", "in_progress")], 3.0),
        ("deal_status_transitions_total", &[("from", "in_progress"), ("to", "completed")], 2.0),
        // Deleted with their owner.
        ("deals_deleted_total", &[("status", "completed")], 1.0),
        ("deals_deleted_total", &[("status", "in_progress")], 1.0),
        ("deals_deleted_total", &[("status", "pending")], 1.0),
        ("deal_asking_price_usd_bucket", &[("le", "10000")], 1.0),
        ("deal_asking_price_usd_sum", &[], 150_000.0),
        ("deal_closed_price_usd_sum", &[], 27_000.0),
        ("deal_discount_ratio_bucket", &[("le", "0.1")], 2.0),
        ("deal_discount_ratio_bucket", &[("le", "0.08")], 0.0),
        ("deal_time_to_close_seconds_bucket", &[("le", "300")], 2.0),
        ("user_signups_total", &[], 2.0),
        ("loan_applications_total", &[("status", "approved")], 1.0),
        ("loan_amount_usd_bucket", &[("le", "15000")], 1.0),
        ("vehicle_searches_total", &[("search_type", "quick")], 1.0),
        ("vehicle_searches_total", &[("search_type", "advanced")], 0.0),
        ("vehicle_searches_empty_total", &[], 1.0),
        ("favorites_added_total", &[], 1.0),
        ("negotiation_sessions_total", &[], 5.0),
        ("negotiation_messages_total", &[("role", "agent")], 1.0),
        ("negotiation_duration_seconds_bucket", &[("outcome", "completed"), ("le", "60")], 1.0),
        ("negotiation_duration_seconds_sum", &[("outcome", "completed")], 45.0),
        ("negotiation_rounds_sum", &[("outcome", "completed")], 3.0),
        ("negotiation_rounds_count", &[("outcome", "cancelled")], 0.0),
        ("llm_requests_total", &[("model", "large"), ("prompt_type", "reply")], 1.0),
        ("llm_tokens_used_total", &[("model", "large"), ("token_type", "prompt")], 100.0),
        ("llm_tokens_used_total", &[("model", "large"), ("token_type", "completion")], 20.0),
        ("llm_cost_usd_total", &[("model", "large")], 0.0125),
        ("llm_fallback_total", &[("feature", "negotiation")], 1.0),
        ("deals", &[("status", "pending")], 1.0),
    ];
    let path = shipped().display().to_string();
    let output = run(&["--config", &path, "reconcile"], Some(&server.dsn()))?;
    assert!(output.status.success(), "{:?}", failure(&output));
    for (name, labels, expected) in counted {
        assert_eq!(value(&page, &format!("autodealgenie_{name}"), labels)?, *expected, "{name} {labels:?}");
    }
    let failing = |name| page.samples(name).filter(|sample| sample.value == 0.0).count();
    assert_eq!((failing("business_exporter_exact"), failing("business_exporter_ledger_intact")), (0, 0));
    assert!(page.samples("business_exporter_event_errors_total").all(|sample| sample.value == 0.0));
    Ok(())
}
