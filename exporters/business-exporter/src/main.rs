//! `business-exporter`: metrics from SQL.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use business_exporter::check;
use business_exporter::cli::{Cli, Command, ConvertArgs, DdlArgs};
use business_exporter::convert;
use business_exporter::counters::{ddl, stock};
use business_exporter::definition::{self, Definition, Definitions};
use business_exporter::exporter::{Exporter, Loaded};
use business_exporter::keys;
use business_exporter::role::{Excess, RoleRule};
use business_exporter::target::Target;
use exporter_kit::app::{App, Failure, OrFailure, block_on, exit, healthcheck};
use exporter_kit::scrape::Selection;
use exporter_kit::telemetry::log;
use pg_client::{Limits, Session};
use tokio::time::Instant;

const PORT: u16 = 9188;

fn main() -> ExitCode {
    exit("business-exporter", run(&Cli::parse_args()))
}

fn run(cli: &Cli) -> Result<(), Failure> {
    log::init(cli.web.log_level, cli.web.log_format).or_failed()?;
    match &cli.command {
        Some(Command::Convert(arguments)) => return print_converted(arguments),
        Some(Command::Keys) => return print_keys(),
        Some(Command::Healthcheck) => {
            let web = cli.web.web(PORT);
            return block_on(async { healthcheck(&web.server, "/-/healthy").await.or_failed() });
        }
        _ => {}
    }
    let definitions = definition::load(&cli.config).or_misconfigured()?;
    match &cli.command {
        Some(Command::Check(arguments)) => {
            let all = &definitions.databases;
            let queries: usize = all.iter().map(|definition| definition.queries.len()).sum();
            let events: usize = all.iter().map(|definition| definition.events.len()).sum();
            tracing::info!(queries, events, file = %cli.config.display(), "the definition is good");
            if arguments.connect { block_on(check_connected(cli, definitions)) } else { Ok(()) }
        }
        Some(Command::Once) => block_on(once(cli, definitions)),
        Some(Command::Reconcile) => block_on(reconcile(&definitions)),
        Some(Command::Ddl(arguments)) => print_ddl(arguments, &definitions),
        // The last three are done above, without a definition.
        Some(Command::Run | Command::Convert(_) | Command::Keys | Command::Healthcheck) | None => {
            block_on(serve(cli, definitions))
        }
    }
}

#[expect(clippy::print_stdout, reason = "the definition is what the command is for")]
fn print_converted(arguments: &ConvertArgs) -> Result<(), Failure> {
    print!("{}", convert::convert(&arguments.file, arguments.from).or_misconfigured()?);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the reference is what the command is for")]
fn print_keys() -> Result<(), Failure> {
    print!("{}", keys::reference());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the SQL is what the command is for")]
fn print_ddl(arguments: &DdlArgs, definitions: &Definitions) -> Result<(), Failure> {
    let with_events = definitions.databases.iter().filter(|definition| !definition.events.is_empty());
    let of_name = |definition: &&Definition| match &arguments.database {
        Some(name) => definition.database.name == *name,
        None => true,
    };
    let definition = match with_events.filter(of_name).collect::<Vec<_>>().as_slice() {
        [one] => *one,
        [] => {
            let message = "the definition has no events, so there is nothing to install";
            return Err(anyhow::anyhow!(message)).or_failed();
        }
        _ => {
            let message = "several databases have events: say with --database for which one";
            return Err(anyhow::anyhow!(message)).or_failed();
        }
    };
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

/// Longest time that connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A session of one command.
async fn connect(definition: &Definition) -> Result<Session, Failure> {
    let target = Target::new(&definition.database).or_misconfigured()?;
    target.connect(Instant::now() + CONNECT_LIMIT).await.or_failed()
}

#[expect(clippy::print_stdout, reason = "the comparison is what the command is for")]
async fn reconcile(definitions: &Definitions) -> Result<(), Failure> {
    if definitions.databases.iter().all(|definition| definition.stocks.is_empty()) {
        return Err(anyhow::anyhow!("the definition has no stocks, so there is nothing to compare"))
            .or_failed();
    }
    let limits = Limits { read_only: true, ..Limits::default() };
    let mut off = 0;
    for definition in definitions.databases.iter().filter(|definition| !definition.stocks.is_empty()) {
        let session = connect(definition).await?;
        for stock in &definition.stocks {
            let name = stock::name(stock);
            let sql = stock::reconcile(definition.counters.schema(), stock);
            let rows = session
                .query(&sql, &limits)
                .await
                .with_context(|| format!("comparing {name}"))
                .or_failed()?;
            for row in rows.iter() {
                let [value, there, due, drift] =
                    [0, 1, 2, 3].map(|column| row.get(column).unwrap_or_default());
                println!("{name}={value} rows={there} counted={due} drift={drift}");
                off += usize::from(row.float(3) != Some(0.0));
            }
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
async fn check_connected(cli: &Cli, definitions: Definitions) -> Result<(), Failure> {
    for definition in &definitions.databases {
        let session = connect(definition).await?;
        let name = &definition.database.name;
        println!("# {name}: PostgreSQL {} at {}", session.server_version(), session.host());
        for Excess { what, remedy } in RoleRule::new(definition).excesses(&session).await.or_failed()? {
            println!("# warning: the role {what}, which an exporter need not: {remedy}");
        }
        for (query, plan) in check::plans(&session, definition).await.or_failed()? {
            println!("# query {query}: {plan}");
        }
    }
    once(cli, definitions).await
}

async fn serve(cli: &Cli, definitions: Definitions) -> Result<(), Failure> {
    let mut web = cli.web.web(PORT);
    // All names here follow the rules, so nothing is lost in OpenMetrics.
    web.enable_openmetrics = true;
    let max_series = cli.web.max_series;
    let loaded = Loaded::new(definitions, max_series).or_misconfigured()?;
    let exporter = Exporter::new(cli.config.clone(), max_series, loaded);
    let app = App::new("business-exporter", "Business exporter", web);
    app.metrics(&exporter).route("/-/config", exporter.config()).reload(exporter.reload()).run().await
}

#[expect(clippy::print_stdout, reason = "the page is what the command is for")]
async fn once(cli: &Cli, mut definitions: Definitions) -> Result<(), Failure> {
    for query in definitions.databases.iter_mut().flat_map(|definition| &mut definition.queries) {
        query.schedule = None;
    }
    let loaded = Loaded::new(definitions, cli.web.max_series).or_misconfigured()?;
    let page = loaded.page(&Selection::ALL, Instant::now() + cli.web.scrape_timeout.get()).await;
    let mut text = String::new();
    exposition::text::encode(&page, &mut text);
    print!("{text}");
    match loaded.failures().as_slice() {
        [] => Ok(()),
        failures => Err(anyhow::anyhow!("{}", failures.join("\n"))).or_failed(),
    }
}
