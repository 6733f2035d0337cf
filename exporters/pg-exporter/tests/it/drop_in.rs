//! A unit file or compose service written for postgres_exporter works after changing only the path or the image.

use std::path::Path;

use testkit::exporter::Exporter;
use testkit::postgres::Postgres;

use crate::failed;

/// A service as people write it for postgres_exporter: arguments, variables, and families that must be there. `$PORT`,
/// `$SOCKETS` and `$FOLDER` stand for what differs from one machine to the next.
struct Service {
    what: &'static str,
    args: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    families: &'static [&'static str],
}

const SERVICES: &[Service] = &[
    Service {
        what: "docker run, as the manual has it",
        args: &[],
        environment: &[
            ("DATA_SOURCE_URI", "127.0.0.1:$PORT/postgres?sslmode=disable"),
            ("DATA_SOURCE_USER", "exporter"),
            ("DATA_SOURCE_PASS", "exporter-secret"),
        ],
        families: &["pg_settings_max_connections", "pg_stat_bgwriter_buffers_clean_total"],
    },
    Service {
        what: "a compose service with secrets and a file of queries",
        args: &[
            "--no-collector.wal",
            "--collector.long_running_transactions",
            "--collector.postmaster",
            "--no-collector.stat_bgwriter",
            "--log.level=debug",
            "--log.format=logfmt",
            "--extend.query-path=$FOLDER/queries.yaml",
            "--config.file=$FOLDER/postgres_exporter.yml",
            "--web.config.file=$FOLDER/web.yml",
        ],
        environment: &[
            ("DATA_SOURCE_URI_FILE", "$FOLDER/uri"),
            ("DATA_SOURCE_USER_FILE", "$FOLDER/user"),
            ("DATA_SOURCE_PASS_FILE", "$FOLDER/password"),
        ],
        families: &["pg_long_running_transactions", "pg_postmaster_start_time_seconds", "pg_replication_lag"],
    },
    Service {
        what: "Debian's unit with a Unix socket",
        args: &["--web.telemetry-path", "/metrics", "--collection-timeout", "30s"],
        environment: &[(
            "DATA_SOURCE_NAME",
            "user=postgres host=$SOCKETS port=$PORT dbname=postgres sslmode=disable",
        )],
        families: &["pg_stat_database_numbackends", "pg_stat_user_tables_n_live_tup"],
    },
    Service {
        what: "a unit from before collectors, all by variables",
        args: &["--auto-discover-databases"],
        environment: &[
            (
                "DATA_SOURCE_NAME",
                "postgresql://exporter:exporter-secret@127.0.0.1:$PORT/postgres?sslmode=disable",
            ),
            ("PG_EXPORTER_EXTEND_QUERY_PATH", "$FOLDER/queries.yaml"),
            ("PG_EXPORTER_DISABLE_SETTINGS_METRICS", "true"),
            ("PG_EXPORTER_EXCLUDE_DATABASES", "template0,template1"),
            ("PG_EXPORTER_CONSTANT_LABELS", "cluster=main"),
            ("PG_EXPORTER_METRIC_PREFIX", "pg"),
        ],
        families: &["pg_static", "pg_replication_lag"],
    },
    Service {
        what: "a Kubernetes pod with most collectors",
        args: &[
            "--no-auto-discover-databases",
            "--exclude-databases=rdsadmin",
            "--include-databases=",
            "--disable-default-metrics",
            "--collector.stat_statements",
            "--collector.stat_statements.include_query",
            "--collector.stat_statements.query_length=60",
            "--collector.stat_statements.limit=20",
            "--collector.stat_statements.exclude_users=exporter",
            "--collector.process_idle",
            "--collector.stat_activity_autovacuum",
            "--collector.stat_wal_receiver",
            "--collector.statio_user_indexes",
            "--collector.database_wraparound",
            "--collector.buffercache_summary",
            "--collector.xlog_location",
        ],
        environment: &[
            ("DATA_SOURCE_URI", "127.0.0.1:$PORT/postgres?sslmode=disable"),
            ("DATA_SOURCE_USER", "exporter"),
            ("DATA_SOURCE_PASS", "exporter-secret"),
        ],
        families: &["pg_stat_statements_calls_total", "pg_database_wraparound_age_datfrozenxid_seconds"],
    },
];

const QUERIES: &str = "
pg_replication:
  query: SELECT CASE WHEN NOT pg_is_in_recovery() THEN 0 ELSE 1 END AS lag
  master: true
  metrics:
    - lag:
        usage: GAUGE
        description: Replication lag behind master in seconds
";

#[tokio::test]
async fn services_of_the_peer_run_as_they_are() -> anyhow::Result<()> {
    let server = Postgres::builder().preload("pg_stat_statements").start().await?;
    server.sql("CREATE EXTENSION pg_stat_statements; CREATE TABLE deals (id int PRIMARY KEY)").await?;
    let folder = tempfile::tempdir()?;
    let uri = format!("127.0.0.1:{}/postgres?sslmode=disable\n", server.port());
    for (name, text) in [
        ("queries.yaml", QUERIES),
        ("postgres_exporter.yml", "auth_modules: {}\n"),
        ("web.yml", "http_server_config: {headers: {X-Frame-Options: deny}}\n"),
        ("uri", &uri),
        ("user", "exporter\n"),
        ("password", "exporter-secret\n"),
    ] {
        std::fs::write(folder.path().join(name), text)?;
    }
    for service in SERVICES {
        let exporter = start(service, &server, folder.path()).await?;
        let page = exporter.scrape(20.0).await?;
        let what = service.what;
        assert_eq!(
            page.value("pg_up", &[]).or(page.value("pg_up", &[("cluster", "main")])),
            Some(1.0),
            "{what}"
        );
        // buffercache_summary needs its extension, and is told so.
        let failed: Vec<_> =
            failed(&page).into_iter().filter(|one| !one.contains("missing_extension")).collect();
        assert_eq!(failed, Vec::<String>::new(), "{what}");
        for family in service.families {
            assert!(page.family(family).is_some(), "{what}: no {family}");
        }
    }
    Ok(())
}

async fn start(service: &Service, server: &Postgres, folder: &Path) -> anyhow::Result<Exporter> {
    let here = |text: &str| {
        text.replace("$PORT", &server.port().to_string())
            .replace("$SOCKETS", &server.socket_dir().display().to_string())
            .replace("$FOLDER", &folder.display().to_string())
    };
    let args: Vec<String> = service.args.iter().copied().map(here).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Exporter::start(env!("CARGO_BIN_EXE_pg-exporter"), &args, |process| {
        service.environment.iter().fold(process, |process, (name, value)| process.env(*name, here(value)))
    })
    .await
}
