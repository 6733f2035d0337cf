//! What a primary and a standby say of themselves in every state that replication can be in. The cases are the truth
//! table of `docs/compatibility.md`.

use std::path::Path;
use std::time::{Duration, Instant};

use exposition::Page;
use testkit::exporter::Exporter;
use testkit::postgres::Postgres;
use testkit::proxy::{FaultProxy, Mode};

use crate::{exporter, failed};

const LIMIT: Duration = Duration::from_secs(40);

/// What a family must be.
#[derive(Clone, Copy, Debug)]
enum Truth {
    Is(f64),
    AtLeast(f64),
    Absent,
}

use Truth::{Absent, AtLeast, Is};

/// Scrapes until everything is as it must be.
async fn wait_for(exporter: &Exporter, truths: &[(&str, Truth)]) -> anyhow::Result<Page> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let page = exporter.scrape(10.0).await?;
        assert_eq!(failed(&page), Vec::<String>::new());
        let holds = |(family, truth): &&(&str, Truth)| match (truth, page.value(family, &[])) {
            (Is(expected), found) => found == Some(*expected),
            (AtLeast(least), found) => found.is_some_and(|value| value >= *least),
            (Absent, _) => page.samples(family).next().is_none(),
        };
        let wrong: Vec<_> = truths.iter().filter(|truth| !holds(truth)).collect();
        if wrong.is_empty() {
            return Ok(page);
        }
        let found: Vec<_> = wrong.iter().map(|(family, _)| page.value(family, &[])).collect();
        anyhow::ensure!(Instant::now() < deadline, "{wrong:?}, but found {found:?}");
    }
}

/// A server that has not to be told apart from a primary.
const PRIMARY: &[(&str, Truth)] = &[
    ("pg_replication_is_replica", Is(0.0)),
    ("pg_replication_lag_seconds", Is(0.0)),
    ("pg_recovery_receiver_streaming", Absent),
    ("pg_recovery_replay_paused", Absent),
    ("pg_recovery_replay_backlog_bytes", Absent),
    ("pg_recovery_last_message_age_seconds", Absent),
];

/// A standby that has everything there is.
const CAUGHT_UP: &[(&str, Truth)] = &[
    ("pg_replication_is_replica", Is(1.0)),
    ("pg_replication_lag_seconds", Is(0.0)),
    ("pg_replication_last_replay_seconds", AtLeast(0.0)),
    ("pg_recovery_receiver_streaming", Is(1.0)),
    ("pg_recovery_last_message_age_seconds", AtLeast(0.0)),
    ("pg_recovery_replay_paused", Is(0.0)),
    ("pg_recovery_replay_backlog_bytes", Is(0.0)),
];

#[tokio::test]
async fn idle_then_paused_then_cut_off() -> anyhow::Result<()> {
    let primary = Postgres::start().await?;
    let link = FaultProxy::start(primary.addr())?;
    let standby = primary.standby_via(link.addr()).await?;
    let of_primary = exporter(&primary.dsn(), &[]).await?;
    let of_standby = exporter(&standby.dsn(), &[]).await?;
    let of_standby_0_19 = exporter(&standby.dsn(), &["--compat=0.19"]).await?;
    primary.sql("CREATE TABLE deals (id int)").await?;

    wait_for(&of_primary, PRIMARY).await?;
    wait_for(
        &of_primary,
        &[
            ("pg_stat_replication_standbys", Is(1.0)),
            ("pg_stat_replication_replay_lag_bytes", Is(0.0)),
            ("pg_stat_replication_pg_wal_lsn_diff", Is(0.0)),
        ],
    )
    .await?;
    wait_for(&of_standby, CAUGHT_UP).await?;
    // An idle primary is no lag, however long ago its last transaction was.
    wait_for(
        &of_standby,
        &[("pg_replication_last_replay_seconds", AtLeast(1.0)), ("pg_replication_lag_seconds", Is(0.0))],
    )
    .await?;

    standby.sql("SELECT pg_wal_replay_pause()").await?;
    primary.sql("INSERT INTO deals VALUES (1)").await?;
    wait_for(
        &of_standby,
        &[
            ("pg_recovery_replay_paused", Is(1.0)),
            ("pg_recovery_receiver_streaming", Is(1.0)),
            ("pg_recovery_replay_backlog_bytes", AtLeast(1.0)),
            ("pg_replication_lag_seconds", AtLeast(1.0)),
        ],
    )
    .await?;
    wait_for(
        &of_primary,
        &[
            ("pg_stat_replication_replay_lag_bytes", AtLeast(1.0)),
            ("pg_stat_replication_flush_lag_bytes", Is(0.0)),
        ],
    )
    .await?;
    standby.sql("SELECT pg_wal_replay_resume()").await?;
    wait_for(&of_standby, CAUGHT_UP).await?;

    link.set(Mode::Refuse);
    primary.sql("INSERT INTO deals VALUES (2)").await?;
    // All that was received is replayed, and the lag grows nevertheless.
    wait_for(
        &of_standby,
        &[
            ("pg_replication_is_replica", Is(1.0)),
            ("pg_recovery_receiver_streaming", Is(0.0)),
            ("pg_recovery_last_message_age_seconds", Absent),
            ("pg_recovery_replay_backlog_bytes", Is(0.0)),
            ("pg_replication_lag_seconds", AtLeast(1.0)),
        ],
    )
    .await?;
    wait_for(&of_standby_0_19, &[("pg_replication_lag_seconds", Is(0.0))]).await?;
    let gone = [("pg_stat_replication_standbys", Absent), ("pg_stat_replication_pg_wal_lsn_diff", Absent)];
    wait_for(&of_primary, &gone).await?;

    link.set(Mode::Pass);
    wait_for(&of_standby, CAUGHT_UP).await?;
    Ok(())
}

#[tokio::test]
async fn a_standby_that_has_only_an_archive() -> anyhow::Result<()> {
    let primary = Postgres::builder()
        .setting("archive_mode", "on")
        .setting("archive_command", "mkdir -p archived && cp %p archived/%f")
        .start()
        .await?;
    let archive = primary.data_dir().join(Path::new("archived"));
    primary.sql("CREATE TABLE deals (id int)").await?;
    primary.sql("SELECT pg_switch_wal()").await?;
    let standby = primary.standby_of_archive(&archive).await?;
    let exporter = exporter(&standby.dsn(), &["--collector.stat_wal_receiver"]).await?;
    wait_for(
        &exporter,
        &[
            ("pg_replication_is_replica", Is(1.0)),
            ("pg_recovery_receiver_streaming", Is(0.0)),
            ("pg_recovery_last_message_age_seconds", Absent),
            // Nothing was ever streamed: there is no backlog to know of.
            ("pg_recovery_replay_backlog_bytes", Absent),
            ("pg_stat_wal_receiver_flushed_lsn", Absent),
            ("pg_replication_lag_seconds", AtLeast(1.0)),
            ("pg_recovery_replay_lsn_bytes", AtLeast(1.0)),
        ],
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_standby_in_the_middle_and_its_promotion() -> anyhow::Result<()> {
    let mut primary = Postgres::start().await?;
    let middle = primary.standby().await?;
    let last = middle.standby().await?;
    primary.sql("CREATE TABLE deals (id int)").await?;
    let of_middle = exporter(&middle.dsn(), &[]).await?;
    let of_last = exporter(&last.dsn(), &[]).await?;
    wait_for(&of_last, CAUGHT_UP).await?;
    wait_for(&of_middle, CAUGHT_UP).await?;
    // It is a standby, and it has one.
    wait_for(
        &of_middle,
        &[
            ("pg_stat_replication_standbys", Is(1.0)),
            ("pg_stat_replication_replay_lag_bytes", Is(0.0)),
            ("pg_settings_in_hot_standby", Is(1.0)),
        ],
    )
    .await?;

    primary.stop()?;
    middle.sql("SELECT pg_promote()").await?;
    // The kept connection is the same one; what it says is not.
    wait_for(&of_middle, PRIMARY).await?;
    wait_for(&of_middle, &[("pg_settings_in_hot_standby", Is(0.0))]).await?;
    middle.sql("INSERT INTO deals VALUES (1)").await?;
    wait_for(&of_last, CAUGHT_UP).await?;
    wait_for(&of_middle, &[("pg_stat_replication_standbys", Is(1.0))]).await?;
    Ok(())
}
