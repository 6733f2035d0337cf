//! What the tests have in common: servers, definitions, the binary as users run it, and its page.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::Context;
use exposition::Page;
use tempfile::TempDir;
use testkit::exporter::Exporter;
use testkit::page::value;
use testkit::postgres::{Postgres, Version, in_full};

/// The schema of the backend.
const SCHEMA: &str = include_str!("../../../../backend/migrations/0001_schema.sql");

/// A server of a major release; none when tests of it do not run in full, so that there is nothing to do.
pub(crate) async fn server(major: u32) -> anyhow::Result<Option<Postgres>> {
    match in_full(major) {
        true => Postgres::builder().version(Version::Major(major)).start().await.map(Some),
        false => Ok(None),
    }
}

/// As [`server`], with the backend's tables, which the exporter may read.
pub(crate) async fn database(major: u32) -> anyhow::Result<Option<Postgres>> {
    let Some(server) = server(major).await? else { return Ok(None) };
    server.sql(SCHEMA).await?;
    server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter").await?;
    Ok(Some(server))
}

/// Scrapes until the page is as it should be.
pub(crate) async fn eventually(
    exporter: &Exporter,
    what: &str,
    is_so: impl Fn(&Page) -> bool,
) -> anyhow::Result<Page> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let page = exporter.scrape(10.0).await?;
        if is_so(&page) {
            return Ok(page);
        }
        anyhow::ensure!(Instant::now() < deadline, "never {what}:\n{page:?}\n{}", exporter.process.log());
    }
}

/// The definition that is shipped, on the tables that it is for.
pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/autodealgenie.yml")
}

/// A definition in a folder of its own.
pub(crate) struct Definition(pub(crate) TempDir);

impl Definition {
    pub(crate) fn new(text: &str) -> anyhow::Result<Definition> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("metrics.yml"), text)?;
        Ok(Definition(folder))
    }

    /// Writes a file beside the definition, or the definition itself.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().context("no folder")?)?;
        Ok(std::fs::write(path, text)?)
    }

    pub(crate) fn path(&self) -> String {
        self.0.path().join("metrics.yml").display().to_string()
    }

    /// One gauge without labels and one query for each of these (name, SQL).
    pub(crate) fn of_queries(queries: &[(&str, &str)]) -> anyhow::Result<Definition> {
        let families: String = queries
            .iter()
            .map(|(name, _)| format!("- {{name: {name}, type: gauge, help: A test.}}\n"))
            .collect();
        let queries: String = queries
            .iter()
            .map(|(name, sql)| {
                // JSON's strings are YAML's.
                let sql = serde_json::Value::from(*sql);
                "- {name: NAME, sql: SQL, emit: [{family: NAME, value: v}]}\n"
                    .replace("NAME", name)
                    .replace("SQL", &sql.to_string())
            })
            .collect();
        Definition::new(&format!("version: 1\nfamilies:\n{families}queries:\n{queries}"))
    }

    pub(crate) async fn exporter(&self, dsn: &str) -> anyhow::Result<Exporter> {
        exporter(Path::new(&self.path()), dsn).await
    }

    /// Installs the ledger of the events, as the owner of the tables does, for the role of the exporter.
    pub(crate) async fn install(&self, server: &Postgres) -> anyhow::Result<()> {
        install(Path::new(&self.path()), server).await
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, arguments: &[&str], dsn: Option<&str>) -> anyhow::Result<Output> {
        run(&[&["--config", &self.path()], arguments].concat(), dsn)
    }
}

/// The outcome of a query, by the page.
pub(crate) fn outcome<'a>(page: &'a exposition::Page, query: &str) -> Option<&'a str> {
    let samples: Vec<_> = page
        .samples("business_exporter_query_outcome")
        .filter(|sample| sample.label("query") == Some(query))
        .collect();
    assert_eq!(samples.len(), 1, "outcomes of {query}");
    samples[0].label("outcome")
}

/// A sample: name, labels, value.
pub(crate) type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// Each of these samples has its value.
pub(crate) fn assert_page(page: &Page, expected: &[Expected<'_>]) -> anyhow::Result<()> {
    for (name, labels, expected) in expected {
        assert_eq!(value(page, name, labels)?, *expected, "{name} {labels:?}");
    }
    Ok(())
}

pub(crate) async fn exporter(definition: &Path, dsn: &str) -> anyhow::Result<Exporter> {
    let config = definition.to_str().context("a path that is not UTF-8")?;
    Exporter::start(env!("CARGO_BIN_EXE_business-exporter"), &["--config", config], |process| {
        process.env("DATABASE_URL", dsn)
    })
    .await
}

/// What `ddl --install --grants exporter` prints.
pub(crate) fn ddl(definition: &Path) -> anyhow::Result<String> {
    let config = definition.to_str().context("a path that is not UTF-8")?;
    let output = run(&["--config", config, "ddl", "--install", "--grants", "exporter"], None)?;
    anyhow::ensure!(output.status.success(), "{:?}", failure(&output));
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) async fn install(definition: &Path, server: &Postgres) -> anyhow::Result<()> {
    server.sql(&ddl(definition)?).await
}

pub(crate) fn run(arguments: &[&str], dsn: Option<&str>) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_business-exporter"));
    command.args(arguments).env_remove("DATABASE_URL");
    if let Some(dsn) = dsn {
        command.env("DATABASE_URL", dsn);
    }
    Ok(command.output()?)
}

/// The exit code, and what was said on stderr.
pub(crate) fn failure(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
