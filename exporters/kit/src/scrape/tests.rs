//! The engine against a target that is slow, broken or hung, on a clock that does not wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use exposition::{Desc, Encoding, Format, parse};
use futures_util::future::join_all;

use super::*;
use crate::collector::Spec;
use crate::page::LARGE;

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Answers,
    Hangs,
    Panics,
    Fails(Outcome),
    Repeats,
    Large,
}

struct Fake(Spec, Behaviour);

impl Collector<Duration> for Fake {
    fn spec(&self) -> &Spec {
        &self.0
    }

    fn collect<'a>(&'a self, latency: &'a Duration) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        async move {
            match self.1 {
                Behaviour::Answers | Behaviour::Repeats => {
                    tokio::time::sleep(*latency).await;
                    let mut snapshot = Snapshot::new();
                    for _ in 0..if self.1 == Behaviour::Repeats { 2 } else { 1 } {
                        let table = snapshot.table(&["collector"]);
                        let value = table.column(&Desc::gauge("value", "A value."));
                        table.row(&[self.0.name]).set(value, 1.0);
                    }
                    Ok(snapshot)
                }
                Behaviour::Large => {
                    let mut snapshot = Snapshot::new();
                    let table = snapshot.table(&["row"]);
                    let value = table.column(&Desc::gauge("value", "A value."));
                    for row in 0..LARGE {
                        table.row(&[&row.to_string()]).set(value, 1.0);
                    }
                    Ok(snapshot)
                }
                Behaviour::Hangs => std::future::pending().await,
                Behaviour::Panics => panic!("collector bug"),
                Behaviour::Fails(outcome) => Err(CollectError::new(outcome, "no")),
            }
        }
        .boxed()
    }
}

struct Target {
    collectors: Vec<Box<dyn Collector<Duration>>>,
    opens: AtomicUsize,
    open: Result<Duration, Behaviour>,
}

impl Source for Target {
    type Session = Duration;

    fn collectors(&self) -> &[Box<dyn Collector<Duration>>] {
        &self.collectors
    }

    fn open(&self, _: Instant) -> BoxFuture<'_, Result<Duration, CollectError>> {
        self.opens.fetch_add(1, Ordering::Relaxed);
        match self.open {
            Ok(latency) => std::future::ready(Ok(latency)).boxed(),
            Err(Behaviour::Hangs) => std::future::pending().boxed(),
            Err(_) => std::future::ready(Err(CollectError::new(Outcome::Connection, "refused"))).boxed(),
        }
    }

    fn finish(&self, pass: Pass<Duration>, page: &mut Snapshot) {
        page.sample(&Desc::gauge("up", "Up."), f64::from(u8::from(pass.session.is_ok())));
        let table = page.table(&["collector", "outcome"]);
        let outcome = table.column(&Desc::gauge("outcome", "Outcome."));
        for ran in &pass.collectors {
            table.row(&[ran.name, ran.outcome.as_str()]).set(outcome, 1.0);
        }
    }
}

fn target(
    open: Result<Duration, Behaviour>,
    collectors: &[(&'static str, Behaviour)],
) -> Arc<Scraper<Target>> {
    let fake = |(name, behaviour): &(&'static str, Behaviour)| -> Box<dyn Collector<Duration>> {
        Box::new(Fake(Spec { name, doc: "", default_enabled: true }, *behaviour))
    };
    let collectors = collectors.iter().map(fake).collect();
    Scraper::new(Target { collectors, opens: AtomicUsize::new(0), open }, |_| {})
}

async fn text(page: &Page) -> parse::Page {
    let body = page.body(Format::Text, Encoding::Identity).await;
    parse::page(std::str::from_utf8(&body).unwrap()).unwrap()
}

fn in_seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn what_came_is_served_and_the_rest_is_named() {
    let scraper = target(
        Ok(Duration::from_millis(10)),
        &[
            ("good", Behaviour::Answers),
            ("hung", Behaviour::Hangs),
            ("bug", Behaviour::Panics),
            ("denied", Behaviour::Fails(Outcome::Permission)),
            ("twice", Behaviour::Repeats),
        ],
    );
    let started = Instant::now();
    let page = scraper.scrape(Selection::ALL, in_seconds(5)).await;
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert_eq!(page.snapshot().duplicates(), 1);
    let page = text(&page).await;
    assert_eq!(page.value("up", &[]), Some(1.0));
    assert_eq!(page.samples("value").count(), 2);
    for (collector, outcome) in
        [("good", "ok"), ("hung", "timeout"), ("bug", "error"), ("denied", "permission"), ("twice", "ok")]
    {
        assert_eq!(
            page.value("outcome", &[("collector", collector), ("outcome", outcome)]),
            Some(1.0),
            "{collector}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_scrapes_share_one_pass() {
    let scraper = target(Ok(Duration::from_secs(1)), &[("good", Behaviour::Answers)]);
    let pages = join_all((0..50).map(|_| scraper.scrape(Selection::ALL, in_seconds(5)))).await;
    assert_eq!(scraper.source().opens.load(Ordering::Relaxed), 1);
    assert!(pages.iter().all(|page| Arc::ptr_eq(page, &pages[0])));
    assert_eq!(scraper.in_flight(), 0);
    scraper.scrape(Selection::ALL, in_seconds(5)).await;
    assert_eq!(scraper.source().opens.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn passes_of_different_selections_take_turns() {
    let scraper = target(Ok(Duration::from_secs(2)), &[("a", Behaviour::Answers), ("b", Behaviour::Answers)]);
    let only = |name: &str| Selection::from_filters(&[name.to_owned()], &[], &scraper.enabled()).unwrap();
    let started = Instant::now();
    let (a, b) =
        tokio::join!(scraper.scrape(only("a"), in_seconds(5)), scraper.scrape(only("b"), in_seconds(5)));
    assert_eq!(started.elapsed(), Duration::from_secs(4));
    assert_eq!(text(&a).await.value("value", &[("collector", "a")]), Some(1.0));
    assert_eq!(text(&b).await.value("value", &[("collector", "b")]), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_scrape_leaks_nothing() {
    let scraper = target(Ok(Duration::from_secs(1)), &[("good", Behaviour::Answers)]);
    for _ in 0..1_000 {
        let aborted =
            tokio::time::timeout(Duration::from_millis(1), scraper.scrape(Selection::ALL, in_seconds(5)));
        assert!(aborted.await.is_err() || scraper.in_flight() <= 1);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scraper.in_flight(), 0);
    assert!(scraper.gate.try_lock().is_ok());
    let page = text(&*scraper.scrape(Selection::ALL, in_seconds(5)).await).await;
    assert_eq!(page.value("up", &[]), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_hung_or_dead_target_is_an_answer_inside_the_deadline() {
    for (open, outcome, seconds) in [(Behaviour::Hangs, "timeout", 3), (Behaviour::Panics, "connection", 0)] {
        let scraper = target(Err(open), &[("good", Behaviour::Answers)]);
        let started = Instant::now();
        let page = text(&*scraper.scrape(Selection::ALL, in_seconds(3)).await).await;
        assert_eq!(started.elapsed(), Duration::from_secs(seconds));
        assert_eq!(page.value("up", &[]), Some(0.0));
        assert_eq!(page.value("outcome", &[("collector", "good"), ("outcome", outcome)]), Some(1.0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_deadline_does_not_wait_for_a_longer_pass() {
    let scraper = target(Ok(Duration::from_secs(4)), &[("slow", Behaviour::Answers)]);
    let long = scraper.scrape(Selection::ALL, in_seconds(9));
    let short = scraper.scrape(Selection::ALL, in_seconds(1));
    let (long, short) = tokio::join!(long, short);
    assert_eq!(text(&short).await.value("up", &[]), Some(0.0));
    assert_eq!(text(&long).await.samples("value").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_large_page_waits_for_readers_of_others_but_not_long() {
    let scraper = target(Ok(Duration::ZERO), &[("large", Behaviour::Large)]);
    let body = || async {
        let page = scraper.scrape(Selection::ALL, in_seconds(8)).await;
        page.body(Format::Text, Encoding::Identity).await
    };
    let started = Instant::now();
    let mut unread = vec![body().await, body().await];
    assert_eq!(started.elapsed(), Duration::ZERO, "there is room for two");
    let third = body().await;
    assert_eq!(started.elapsed(), Duration::from_secs(2), "the readers of both stall");
    assert_eq!(parse::page(std::str::from_utf8(&third).unwrap()).unwrap().samples("value").count(), LARGE);
    let one_is_read = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        unread.pop();
    };
    tokio::join!(body(), one_is_read);
    assert_eq!(started.elapsed(), Duration::from_secs(3), "it waits for one of them only");
}

#[tokio::test(start_paused = true)]
async fn small_pages_wait_for_no_reader() {
    let scraper = target(Ok(Duration::ZERO), &[("good", Behaviour::Answers)]);
    let started = Instant::now();
    let mut read = Vec::new();
    for _ in 0..10 {
        let page = scraper.scrape(Selection::ALL, in_seconds(8)).await;
        read.push((page.body(Format::Text, Encoding::Gzip).await, page));
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn too_many_series_are_dropped_and_said() {
    let fake: Box<dyn Collector<Duration>> =
        Box::new(Fake(Spec { name: "many", doc: "", default_enabled: true }, Behaviour::Repeats));
    let source = Target { collectors: vec![fake], opens: AtomicUsize::new(0), open: Ok(Duration::ZERO) };
    let scraper = Scraper::with_max_series(source, |_| {}, Some(1));
    let page = text(&*scraper.scrape(Selection::ALL, in_seconds(1)).await).await;
    assert_eq!(page.value("outcome", &[("collector", "many"), ("outcome", "error")]), Some(1.0));
    assert_eq!(page.samples("value").count(), 0);
}

#[test]
fn filters() {
    let filter = |collect: &[&str], exclude: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Selection::from_filters(&owned(collect), &owned(exclude), &["a", "b", "c"])
    };
    assert_eq!(filter(&[], &[]).unwrap(), Selection::ALL);
    assert!(filter(&["a"], &[]).unwrap().contains("a"));
    assert!(!filter(&["a"], &[]).unwrap().contains("b"));
    assert_eq!(filter(&[], &["a"]).unwrap(), filter(&["b", "c"], &[]).unwrap());
    assert!(filter(&["x"], &[]).unwrap_err().to_string().contains("\"x\""));
    assert!(filter(&["a"], &["b"]).is_err());
}

#[tokio::test(start_paused = true)]
async fn deadline_is_the_earlier_one_less_the_offset() {
    let own = Duration::from_millis(9500);
    for (header, expected) in [
        (None, 9.5),
        (Some("10"), 9.5),
        (Some("5"), 4.5),
        (Some("1"), 0.9),
        (Some("60"), 9.5),
        (Some("-1"), 9.5),
        (Some("nonsense"), 9.5),
        (Some("inf"), 9.5),
    ] {
        assert_eq!(deadline(own, header) - Instant::now(), Duration::from_secs_f64(expected), "{header:?}");
    }
}
