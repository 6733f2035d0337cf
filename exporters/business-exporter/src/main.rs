//! `business-exporter`: metrics from SQL.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use business_exporter::check;
use business_exporter::cli::{Cli, Command, DdlArgs};
use business_exporter::counters::{ddl, stock};
use business_exporter::definition::{self, Definition};
use business_exporter::source::Queries;
use exporter_kit::app::{App, Failure, OrFailure, block_on, exit, healthcheck};
use exporter_kit::scrape::{Scraper, Selection};
use exporter_kit::telemetry::{build_info, log, process};
use exposition::Snapshot;
use pg_client::{Connector, Dsn, Limits};
use tokio::time::Instant;

const PORT: u16 = 9188;

fn main() -> ExitCode {
    exit("business-exporter", run(&Cli::parse_args()))
}

fn run(cli: &Cli) -> Result<(), Failure> {
    log::init(cli.web.log_level, cli.web.log_format).or_failed()?;
    if let Some(Command::Healthcheck) = cli.command {
        let web = cli.web.web(PORT);
        return block_on(async { healthcheck(&web.server, "/-/healthy").await.or_failed() });
    }
    let definition = definition::load(&cli.config).or_misconfigured()?;
    match &cli.command {
        Some(Command::Check(arguments)) => {
            let (queries, events) = (definition.queries.len(), definition.events.len());
            tracing::info!(queries, events, file = %cli.config.display(), "the definition is good");
            if arguments.connect { block_on(check_connected(cli, definition)) } else { Ok(()) }
        }
        Some(Command::Once) => block_on(once(cli, definition)),
        Some(Command::Reconcile) => block_on(reconcile(&definition)),
        Some(Command::Ddl(arguments)) => print_ddl(arguments, &definition),
        Some(Command::Run | Command::Healthcheck) | None => block_on(serve(cli, definition)),
    }
}

#[expect(clippy::print_stdout, reason = "the SQL is what the command is for")]
fn print_ddl(arguments: &DdlArgs, definition: &Definition) -> Result<(), Failure> {
    if definition.events.is_empty() {
        return Err(anyhow::anyhow!("the definition has no events, so there is nothing to install"))
            .or_failed();
    }
    if arguments.uninstall {
        print!("{}", ddl::uninstall(definition));
    }
    if arguments.install {
        print!("{}", ddl::install(definition).or_failed()?);
    }
    if let Some(role) = &arguments.grants {
        print!("{}", ddl::grants(definition, role));
    }
    Ok(())
}

/// How to reach the database of the definition.
fn connector(definition: &Definition) -> Result<Connector, Failure> {
    let dsn = definition.database.dsn.reveal().or_misconfigured()?;
    let dsn =
        Dsn::parse(&dsn).context("cannot use the connection string of the database").or_misconfigured()?;
    tracing::info!(server = %dsn.redacted(), queries = definition.queries.len(), "querying");
    let connector = Connector::new(dsn).with_application_name("business-exporter");
    Ok(match definition.database.password.clone() {
        Some(password) => {
            password.reveal().or_misconfigured()?;
            connector.with_password_source(Arc::new(move || password.reveal().ok()))
        }
        None => connector,
    })
}

/// The database of the definition with its queries.
fn queries(definition: Definition) -> Result<Queries, Failure> {
    Ok(Queries::new(connector(&definition)?, definition))
}

/// Longest time that connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

#[expect(clippy::print_stdout, reason = "the comparison is what the command is for")]
async fn reconcile(definition: &Definition) -> Result<(), Failure> {
    if definition.stocks.is_empty() {
        return Err(anyhow::anyhow!("the definition has no stocks, so there is nothing to compare"))
            .or_failed();
    }
    let session = connector(definition)?.connect(Instant::now() + CONNECT_LIMIT).await.or_failed()?;
    let limits = Limits { read_only: true, ..Limits::default() };
    let mut off = 0;
    for stock in &definition.stocks {
        let name = stock::name(stock);
        let sql = stock::reconcile(definition.counters.schema(), stock);
        let rows =
            session.query(&sql, &limits).await.with_context(|| format!("comparing {name}")).or_failed()?;
        for row in rows.iter() {
            let [value, there, due, drift] = [0, 1, 2, 3].map(|column| row.get(column).unwrap_or_default());
            println!("{name}={value} rows={there} counted={due} drift={drift}");
            off += usize::from(row.float(3) != Some(0.0));
        }
    }
    match off {
        0 => Ok(()),
        _ => Err(anyhow::anyhow!(
            "{off} stocks differ from their counters; triggers were off, or rows were truncated"
        ))
        .or_failed(),
    }
}

#[expect(clippy::print_stdout, reason = "the findings are what the command is for")]
async fn check_connected(cli: &Cli, definition: Definition) -> Result<(), Failure> {
    let session = connector(&definition)?.connect(Instant::now() + CONNECT_LIMIT).await.or_failed()?;
    println!("# PostgreSQL {} at {}", session.server_version(), session.host());
    for finding in check::role(&session).await.or_failed()? {
        println!("# warning: {finding}; an exporter needs to read only");
    }
    for (query, plan) in check::plans(&session, &definition).await.or_failed()? {
        println!("# query {query}: {plan}");
    }
    drop(session);
    once(cli, definition).await
}

async fn serve(cli: &Cli, definition: Definition) -> Result<(), Failure> {
    let mut web = cli.web.web(PORT);
    // All names here follow the rules, so nothing is lost in OpenMetrics.
    web.enable_openmetrics = true;
    let scraper = Scraper::with_max_series(queries(definition)?, self_metrics, cli.web.max_series);
    scraper.source().start_background();
    App::new("business-exporter", "Business exporter", web).metrics(&scraper).run().await
}

#[expect(clippy::print_stdout, reason = "the page is what the command is for")]
async fn once(cli: &Cli, mut definition: Definition) -> Result<(), Failure> {
    for query in &mut definition.queries {
        query.refresh = None;
    }
    let scraper = Scraper::new(queries(definition)?, |_| {});
    let page = scraper.scrape(Selection::ALL, Instant::now() + cli.web.scrape_timeout.get()).await;
    let mut text = String::new();
    exposition::text::encode(page.snapshot(), &mut text);
    print!("{text}");
    match scraper.source().failures().as_slice() {
        [] => Ok(()),
        failures => Err(anyhow::anyhow!("{}", failures.join("\n"))).or_failed(),
    }
}

fn self_metrics(page: &mut Snapshot) {
    process::append(page);
    page.append(build_info("business_exporter", &[]));
}
