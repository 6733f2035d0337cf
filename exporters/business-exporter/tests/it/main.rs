//! business-exporter against a real server with the schema of the backend: the binary as users run it.

mod background;
mod compose;
mod convert;
mod exactness;
mod faults;
mod language;
mod ledger;
mod modes;
mod security;
mod usage;
mod values;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::Context;
use exposition::Page;
use tempfile::TempDir;
use testkit::exporter::Exporter;
use testkit::postgres::{Postgres, Version};

/// The schema of the backend.
const SCHEMA: &str = include_str!("../../../../backend/migrations/0001_schema.sql");

/// A server of a major release.
async fn server(major: u32) -> anyhow::Result<Postgres> {
    Postgres::builder().version(Version::Major(major)).start().await
}

/// A server with the backend's tables, which the exporter may read.
async fn database(major: u32) -> anyhow::Result<Postgres> {
    let server = server(major).await?;
    server.sql(SCHEMA).await?;
    server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter").await?;
    Ok(server)
}

/// Scrapes until the page is as it should be.
async fn eventually(exporter: &Exporter, what: &str, is_so: impl Fn(&Page) -> bool) -> anyhow::Result<Page> {
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
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/autodealgenie.yml")
}

/// A definition in a folder of its own.
struct Definition(TempDir);

impl Definition {
    fn new(text: &str) -> anyhow::Result<Definition> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("metrics.yml"), text)?;
        Ok(Definition(folder))
    }

    /// Writes a file beside the definition, or the definition itself.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().context("no folder")?)?;
        Ok(std::fs::write(path, text)?)
    }

    fn path(&self) -> String {
        self.0.path().join("metrics.yml").display().to_string()
    }

    /// One gauge without labels and one query for each of these (name, SQL).
    fn of_queries(queries: &[(&str, &str)]) -> anyhow::Result<Definition> {
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

    async fn exporter(&self, dsn: &str) -> anyhow::Result<Exporter> {
        exporter(Path::new(&self.path()), dsn).await
    }

    /// Installs the ledger of the events, as the owner of the tables does, for the role of the exporter.
    async fn install(&self, server: &Postgres) -> anyhow::Result<()> {
        install(Path::new(&self.path()), server).await
    }

    /// Runs the binary to its end.
    fn run(&self, arguments: &[&str], dsn: Option<&str>) -> anyhow::Result<Output> {
        run(&[&["--config", &self.path()], arguments].concat(), dsn)
    }
}

/// The outcome of a query, by the page.
fn outcome<'a>(page: &'a exposition::Page, query: &str) -> Option<&'a str> {
    let samples: Vec<_> = page
        .samples("business_exporter_query_outcome")
        .filter(|sample| sample.label("query") == Some(query))
        .collect();
    assert_eq!(samples.len(), 1, "outcomes of {query}");
    samples[0].label("outcome")
}

async fn exporter(definition: &Path, dsn: &str) -> anyhow::Result<Exporter> {
    let config = definition.to_str().context("a path that is not UTF-8")?;
    Exporter::start(env!("CARGO_BIN_EXE_business-exporter"), &["--config", config], |process| {
        process.env("DATABASE_URL", dsn)
    })
    .await
}

/// What `ddl --install --grants exporter` prints.
fn ddl(definition: &Path) -> anyhow::Result<String> {
    let config = definition.to_str().context("a path that is not UTF-8")?;
    let output = run(&["--config", config, "ddl", "--install", "--grants", "exporter"], None)?;
    anyhow::ensure!(output.status.success(), "{:?}", failure(&output));
    Ok(String::from_utf8(output.stdout)?)
}

async fn install(definition: &Path, server: &Postgres) -> anyhow::Result<()> {
    server.sql(&ddl(definition)?).await
}

fn run(arguments: &[&str], dsn: Option<&str>) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_business-exporter"));
    command.args(arguments).env_remove("DATABASE_URL");
    if let Some(dsn) = dsn {
        command.env("DATABASE_URL", dsn);
    }
    Ok(command.output()?)
}

/// The exit code, and what was said on stderr.
fn failure(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
