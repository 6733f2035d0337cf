//! `cargo xtask bench backend`: what measuring its requests costs the service, what its page of metrics takes, and what the
//! cache is worth in a small and in a large catalogue. The service runs twice on the same stores, once unmeasured, and the
//! two take turns.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use testkit::{
    callgrind, free_port,
    http::{get, post},
    postgres::Postgres,
    process::{Process, ProcessBuilder, Stat},
    redis::Redis,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Args, Scenario};
use crate::{
    cargo,
    progress::{print, step, table},
};

/// Clients at a time.
const CLIENTS: usize = 16;
/// How long one of two has the machine before it is the other's turn.
const TURN: Duration = Duration::from_millis(500);
const START: Duration = Duration::from_secs(60);
/// Requests that valgrind watches, after those that fill caches and pools.
const WATCHED: usize = 200;
const PASSWORD: &str = "correct horse battery";

/// What is asked, by the number of the request.
type Question = fn(usize) -> String;

const ROUTES: &[Scenario<Question>] = &[
    Scenario {
        name: "search",
        title: "GET /api/v1/vehicles, cached",
        flags: &[],
        fill: |_| "/api/v1/vehicles?make=toyota&model=camry".to_owned(),
    },
    Scenario {
        name: "vehicle",
        title: "GET /api/v1/vehicles/{vin}, cached",
        flags: &[],
        fill: |number| format!("/api/v1/vehicles/1ADGX{:012}", 1 + number % 100),
    },
    Scenario { name: "deals", title: "GET /api/v1/deals", flags: &[], fill: |_| "/api/v1/deals".to_owned() },
    Scenario { name: "me", title: "GET /api/v1/auth/me", flags: &[], fill: |_| "/api/v1/auth/me".to_owned() },
];

/// What somebody who knows the car wants: the 20 newest of one model, not old, not worn, below a price. The next number is
/// a cent more, and a search that nobody has asked for yet.
fn narrow(number: usize) -> String {
    format!(
        "/api/v1/vehicles?search_type=advanced&make=toyota&model=camry&year_min=2020&mileage_max=60000\
         &price_max={}.{:02}",
        20_000 + number / 100,
        number % 100
    )
}

/// The seeded catalogue and 194,000 more of its models, at other prices and mileages.
const LARGE_CATALOGUE: &str = "
    INSERT INTO vehicles (
        vin, make, model, trim, year, body_type, condition, fuel_type, transmission, color, mileage, price, location
    )
    SELECT
        '2ADGX' || lpad((id + 6000 * copy)::text, 12, '0'),
        make,
        model,
        trim,
        year,
        body_type,
        condition,
        fuel_type,
        transmission,
        color,
        mileage + id * copy % 5000,
        round(price * (0.90 + id * copy % 21 / 100.0), 2),
        location
    FROM vehicles
    CROSS JOIN generate_series(1, 33) AS copy
    WHERE id + 6000 * copy <= 200000
    ORDER BY copy, id;
    ANALYZE vehicles";

/// The stores that both use.
struct Stores {
    postgres: Postgres,
    redis: Redis,
    folder: TempDir,
}

/// A running service.
struct Backend {
    process: Process,
    address: SocketAddr,
}

impl Stores {
    /// Starts the service.
    async fn serve(&self, program: ProcessBuilder, flags: &[&str]) -> Result<Backend> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().context("looking for a free port")?));
        // The lines of the access log are not what is measured here.
        let mut process = program
            .args(["--listen", &address.to_string(), "--log.level", "warn"])
            .args(flags)
            .env("DATABASE_URL", self.postgres.admin_dsn("postgres"))
            .env("REDIS_URL", self.redis.url())
            .spawn()?;
        let page = format!("http://{address}/ready");
        let ready = || async { get(&page).await.ok().filter(|answer| answer.status == 200) };
        process.wait_until("the service to be ready", START, ready).await?;
        Ok(Backend { process, address })
    }
}

impl Backend {
    fn cpu(&self) -> Duration {
        Stat::of(self.process.pid()).map_or(Duration::ZERO, |stat| stat.cpu)
    }
}

/// A kept connection that does as little as a client can, so that the service gets the machine.
struct Client {
    stream: TcpStream,
    token: String,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr, token: &str) -> Result<Client> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        Ok(Client { stream, token: token.to_owned(), buffer: Vec::new() })
    }

    /// Asks and reads the whole answer, which must be a good one; its bytes.
    async fn get(&mut self, path: &str, headers: &str) -> Result<usize> {
        let Client { stream, token, buffer } = self;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.context("sending a request")?;
        buffer.clear();
        loop {
            let read = stream.read_buf(buffer).await.context("reading an answer")?;
            ensure!(read > 0, "the connection was closed");
            let Some(head) = buffer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
            ensure!(text.starts_with("http/1.1 200"), "GET {path}: {text}");
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.context("no length")?.trim().parse().context("an odd length")?;
            while buffer.len() < head + 4 + length {
                ensure!(
                    stream.read_buf(buffer).await.context("reading an answer")? > 0,
                    "an answer was cut off"
                );
            }
            return Ok(length);
        }
    }
}

/// What a service did in its turns.
#[derive(Default)]
struct Sums {
    times: Vec<Duration>,
    cpu: Duration,
    spent: Duration,
}

impl Sums {
    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.spent.as_secs_f64()
    }

    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.times.len().max(1) as f64
    }
}

/// The one below which so many of a thousand are.
fn quantile(times: &mut [Duration], of_thousand: usize) -> Duration {
    times.sort_unstable();
    times
        .get((times.len() * of_thousand / 1000).min(times.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// All clients ask for a turn; `next` is the number of the first question.
async fn turn(
    backend: &Backend,
    clients: &mut [Client],
    question: Question,
    next: &mut usize,
    sums: &mut Sums,
) -> Result<()> {
    let (cpu, start, step) = (backend.cpu(), Instant::now(), clients.len());
    let each = clients.iter_mut().enumerate().map(|(number, client)| {
        let mut question_number = *next + number;
        async move {
            let mut times = Vec::new();
            while start.elapsed() < TURN {
                let asked = Instant::now();
                client.get(&question(question_number), "").await?;
                times.push(asked.elapsed());
                question_number += step;
            }
            anyhow::Ok(times)
        }
    });
    let mut most = 0;
    for times in join_all(each).await {
        let times = times?;
        most = most.max(times.len());
        sums.times.extend(times);
    }
    // Some clients ask more than others: no number comes twice.
    *next += step * most;
    sums.spent += start.elapsed();
    sums.cpu += backend.cpu().saturating_sub(cpu);
    Ok(())
}

async fn clients(backend: &Backend, token: &str) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(backend.address, token).await?);
    }
    Ok(clients)
}

pub(super) async fn run(args: &Args) -> Result<()> {
    let chosen = args.chosen(ROUTES)?;
    let program = cargo::release("autodealgenie-backend")?;
    let stores = Stores {
        postgres: step("start PostgreSQL", Postgres::start()).await?,
        redis: step("start Redis", Redis::start()).await?,
        folder: TempDir::new().context("making a folder for logs")?,
    };
    let builder = |name: &str| Process::builder(name, &program, stores.folder.path().join(name));
    let measured = step("start the service", stores.serve(builder("measured"), &[])).await?;
    let unmeasured =
        step("start it unmeasured", stores.serve(builder("unmeasured"), &["--unmeasured"])).await?;
    let token = account(&measured).await?;
    let time = Duration::from_secs(args.seconds);

    let mut rows =
        vec![head(&["route", "requests/s", "unmeasured", "CPU a request", "unmeasured", "instructions"])];
    for route in chosen {
        let mut both = [(&measured, Sums::default()), (&unmeasured, Sums::default())];
        let mut connections = Vec::new();
        for (backend, _) in &both {
            connections.push(clients(backend, &token).await?);
        }
        let mut next = 0;
        step(&format!("{}, {} s each", route.title, args.seconds), async {
            while both.iter().any(|(_, sums)| sums.spent < time) {
                for ((backend, sums), clients) in both.iter_mut().zip(&mut connections) {
                    turn(backend, clients, route.fill, &mut next, sums).await?;
                }
            }
            anyhow::Ok(())
        })
        .await?;
        let [(_, with), (_, without)] = both;
        let watched = async {
            let with = instructions(&stores, &program, &token, route.fill, &[]).await?;
            let without = instructions(&stores, &program, &token, route.fill, &["--unmeasured"]).await?;
            let part = (with / without - 1.0) * 100.0;
            anyhow::Ok(format!("{:.1} k of {:.0} k ({part:.1} %)", (with - without) / 1e3, with / 1e3))
        };
        let watched = step(&format!("{}, counting instructions", route.title), watched).await;
        rows.push(vec![
            route.title.to_owned(),
            format!("{:.0} ({:+.1} %)", with.rate(), (with.rate() / without.rate() - 1.0) * 100.0),
            format!("{:.0}", without.rate()),
            format!("{:.1} µs", with.cpu_each()),
            format!("{:.1} µs", without.cpu_each()),
            watched.unwrap_or_else(|error| format!("not counted: {error:#}")),
        ]);
    }
    show("what measuring costs", &rows);

    // The cache: a search that was asked before, and one that nobody has asked for.
    let mut rows = vec![head(&["vehicles", "search", "searches/s", "p50", "p99", "ratio"])];
    let mut next = 2;
    for (vehicles, cached) in
        [("6,000", (|_| narrow(0)) as Question), ("200,000", (|_| narrow(1)) as Question)]
    {
        if vehicles != "6,000" {
            step("fill the catalogue", stores.postgres.sql(LARGE_CATALOGUE)).await?;
        }
        let mut rates = Vec::new();
        for (title, question) in [("cached", cached), ("uncached", narrow as Question)] {
            let mut sums = Sums::default();
            let mut connections = clients(&measured, &token).await?;
            step(&format!("{title} search of {vehicles} vehicles, {} s", args.seconds), async {
                while sums.spent < time {
                    turn(&measured, &mut connections, question, &mut next, &mut sums).await?;
                }
                anyhow::Ok(())
            })
            .await?;
            rates.push(sums.rate());
            let (p50, p99) = (quantile(&mut sums.times, 500), quantile(&mut sums.times, 990));
            let ratio = rates.get(1).map_or(String::new(), |uncached| format!("{:.1}", rates[0] / uncached));
            rows.push(vec![
                vehicles.to_owned(),
                title.to_owned(),
                format!("{:.0}", sums.rate()),
                ms(p50),
                ms(p99),
                ratio,
            ]);
        }
    }
    show("what the cache is worth", &rows);

    let mut rows = vec![head(&["page", "bytes", "scrapes", "p50", "p99"])];
    for (title, headers) in [
        ("text", ""),
        ("text, gzip", "accept-encoding: gzip\r\n"),
        ("OpenMetrics", "accept: application/openmetrics-text;version=1.0.0\r\n"),
        (
            "OpenMetrics, gzip",
            "accept: application/openmetrics-text;version=1.0.0\r\naccept-encoding: gzip\r\n",
        ),
    ] {
        let mut client = Client::connect(measured.address, &token).await?;
        let (mut times, mut bytes, start) = (Vec::new(), 0, Instant::now());
        step(&format!("/metrics as {title}, {} s", args.seconds), async {
            while start.elapsed() < time {
                let asked = Instant::now();
                bytes = client.get("/metrics", headers).await?;
                times.push(asked.elapsed());
            }
            anyhow::Ok(())
        })
        .await?;
        let (p50, p99) = (quantile(&mut times, 500), quantile(&mut times, 990));
        rows.push(vec![title.to_owned(), bytes.to_string(), times.len().to_string(), ms(p50), ms(p99)]);
    }
    show("what a page of metrics takes", &rows);
    Ok(())
}

/// An account with a few deals, for what only users may see; gives its token.
async fn account(backend: &Backend) -> Result<String> {
    let url = format!("http://{}/api/v1", backend.address);
    let body = json!({"email": "bench@example.com", "username": "bench", "password": PASSWORD});
    let made = post(&format!("{url}/auth/signup"), &body).await?;
    ensure!(made.status == 201, "{}", made.text);
    let body = json!({"email": "bench@example.com", "password": PASSWORD});
    let login = post(&format!("{url}/auth/login"), &body).await?.json()?;
    let token = login["token"].as_str().map(str::to_owned).context("no token")?;
    for number in 0..20 {
        let deal = json!({
            "vehicle_make": "Toyota", "vehicle_model": "Camry", "vehicle_year": 2024, "vehicle_mileage": 10,
            "vehicle_vin": format!("1HGCM82633A{number:06}"), "asking_price": 25_000,
        });
        let request = testkit::http::Request::new(http::Method::POST, format!("{url}/deals"));
        let made = request.header("authorization", format!("Bearer {token}")).json(&deal).send().await?;
        ensure!(made.status == 201, "{}", made.text);
    }
    Ok(token)
}

/// Instructions that the service executes for a request: valgrind counts them in two runs of different length.
async fn instructions(
    stores: &Stores,
    program: &Path,
    token: &str,
    question: Question,
    flags: &[&str],
) -> Result<f64> {
    let mut counts = Vec::new();
    for requests in [WATCHED, 2 * WATCHED] {
        let flags = [flags, &["--no-migrate"]].concat();
        let watched = callgrind::builder("watched", program, stores.folder.path().join("watched"));
        let backend = stores.serve(watched, &flags).await?;
        let mut client = Client::connect(backend.address, token).await?;
        for number in 0..requests {
            client.get(&question(number), "").await?;
        }
        drop(client);
        counts.push(callgrind::stop(backend.process, START).await?);
    }
    Ok((counts[1] - counts[0]) / WATCHED as f64)
}

fn head(titles: &[&str]) -> Vec<String> {
    titles.iter().map(|title| (*title).to_owned()).collect()
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn show(title: &str, rows: &[Vec<String>]) {
    print(&format!("### {title}\n"));
    let rule = rows[0].iter().map(|_| "---".to_owned()).collect();
    let with_rule: Vec<Vec<String>> =
        rows[..1].iter().cloned().chain([rule]).chain(rows[1..].iter().cloned()).collect();
    let framed: Vec<Vec<String>> = with_rule
        .into_iter()
        .map(|row| {
            let cells = row.into_iter().map(|cell| format!("| {cell}"));
            cells.chain(["|".to_owned()]).collect()
        })
        .collect();
    table(&framed).iter().for_each(|line| print(line));
    print("");
}
