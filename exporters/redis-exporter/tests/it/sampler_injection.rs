//! Each reply to the background sampler, replaced: no sample may differ from the error-free run, and only what comes from
//! that reply may be missing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use exporter_kit::scrape::{Scraper, Selection};
use exposition::Page;
use futures_util::future::join_all;
use redis_exporter::exporter::Exporter;
use redis_exporter::lua_pattern::Pattern;
use redis_exporter::options::{Features, Options, SamplerOptions};
use testkit::page::samples;
use tokio::time::{Instant, MissedTickBehavior};

use crate::injection::{Samples, faults, is_an_answer, keys, refusal};
use crate::recording::{Fault, Script, Stub, script};
use crate::support::{read, scraper};

/// A sampler rests ten seconds after an error.
const LIMIT: Duration = Duration::from_secs(200);

/// What the recorded server also answers.
const REPLIES: &[(&str, &str)] = &[
    ("SELECT 0", "+OK"),
    ("SELECT 2", "+OK"),
    ("SELECT 3", "+OK"),
    ("SCAN 0 COUNT 200", "*2 $2 11 *2 $3 p:1 $1 c"),
    ("SCAN 11 COUNT 200", "*2 $1 0 *2 $3 p:2 $3 p:1"),
    ("SCAN 0 MATCH p:* COUNT 1000", "*2 $2 11 *1 $3 p:1"),
    ("SCAN 11 MATCH p:* COUNT 1000", "*2 $1 0 *2 $3 p:2 $3 p:1"),
    ("SCAN 0 MATCH c* COUNT 1000", "*2 $1 0 *1 $1 c"),
    ("RANDOMKEY", "$3 p:1"),
    ("MEMORY USAGE p:1", ":400"),
    ("MEMORY USAGE p:2", ":500"),
    ("MEMORY USAGE c", ":200"),
    ("TYPE p:1", "+hash"),
    ("PTTL p:1", ":5000"),
    ("TYPE c", "+string"),
    ("STRLEN c", ":5"),
    ("GETRANGE c 0 1024", "$5 hello"),
];

fn recorded() -> Script {
    let mut script = script("standalone");
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (command, reply) in REPLIES {
        script.insert(words(command), format!("{}\r\n", reply.replace(' ', "\r\n")).into_bytes());
    }
    // The server took no time.
    script.insert(words("INFO COMMANDSTATS"), script[&words("INFO ALL")].clone());
    script
}

/// Every kind of work, whose walk looks at all keys; and walks that look for one pattern each.
fn kinds() -> [Features; 2] {
    let budget = Duration::from_millis(20);
    let sampler = SamplerOptions { budget, insight: true, top: 20 };
    [
        Features {
            count: keys("p:*,none:*"),
            patterns: keys("c*"),
            key_groups: vec![Pattern::new("^(.*):").unwrap()],
            sampler: Some(sampler),
            ..Features::default()
        },
        Features {
            count: keys("p:*,db2=c*"),
            sampler: Some(SamplerOptions { insight: false, ..sampler }),
            ..Features::default()
        },
    ]
}

/// What it shows, apart from its own account. The random keys are one and the same: what it has, however often it was
/// looked at.
fn of_sampler(page: &Page) -> Samples {
    let all = samples(page);
    let shown = all.iter().filter(|(sample, _)| {
        !sample.starts_with("redis_key_sampler_")
            && !sample.starts_with("redis_exporter_")
            && !sample.contains("last_key_groups_scrape_duration")
    });
    let mut out = Samples::new();
    for (sample, value) in shown {
        let looks = |database: &str| page.value("redis_sampled_key_memory_bytes_count", &[("db", database)]);
        let database = sample.split("db=\"").nth(1).and_then(|rest| rest.split('"').next());
        let value = match database.and_then(looks) {
            Some(looks) if sample.starts_with("redis_sampled_key_") => value / looks,
            _ => *value,
        };
        out.insert(sample.clone(), value.to_string());
    }
    out
}

/// A sampler of its own server.
struct Sampling {
    stub: Stub,
    scraper: Arc<Scraper<Exporter>>,
}

impl Sampling {
    async fn start(script: &Script, features: &Features, fault: Option<(&[String], &Fault)>) -> Sampling {
        let stub = Stub::start(script.clone()).await;
        if let Some((command, fault)) = fault {
            stub.fail(&command.iter().map(String::as_str).collect::<Vec<_>>(), fault.clone());
        }
        let scraper = scraper(&stub.address, Options { features: features.clone(), ..Options::default() });
        tokio::spawn(scraper.source().sampler().unwrap().run());
        Sampling { stub, scraper }
    }

    /// The first page with this; each page before it passes, too.
    async fn until(&self, what: &str, mut wanted: impl FnMut(&Page) -> bool) -> Page {
        let deadline = Instant::now() + LIMIT;
        let mut between = tokio::time::interval(Duration::from_millis(200));
        between.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            between.tick().await;
            let only = ["key_sampler".to_owned()];
            let only = Selection::from_filters(&only, &[], &self.scraper.enabled()).unwrap();
            let page = self.scraper.scrape(only, Instant::now() + LIMIT).await;
            let page = read(&page);
            if wanted(&page) {
                return page;
            }
            let errors = page.value("redis_key_sampler_errors_total", &[]);
            assert!(Instant::now() < deadline, "{what}: {errors:?} errors, {:?}", of_sampler(&page));
        }
    }
}

/// Whether each database has been walked.
fn walked(page: &Page) -> bool {
    page.samples("redis_key_sampler_walk_age_seconds").count() == 2
}

/// Whether a sample comes from the reply to a command.
fn comes_from(command: &[&str], sample: &str) -> bool {
    let random = sample.starts_with("redis_sampled_");
    let key = |key: &str| sample.contains(&format!("key=\"{key}\""));
    match command {
        ["INFO", "ALL"] => true,
        ["SELECT", database] => {
            sample.contains(&format!("db=\"db{database}\"")) || sample.contains("redis_key_")
        }
        ["SCAN", _, "COUNT", _] => !random,
        ["SCAN", _, "MATCH", pattern, ..] => key(pattern),
        ["RANDOMKEY"] | ["PTTL", _] | ["TYPE", "p:1"] => random,
        ["MEMORY", _, of] => {
            random
                || key(of)
                || sample.starts_with("redis_big_")
                || sample.starts_with("redis_key_group")
                || sample.starts_with("redis_number_of_distinct_key_groups")
        }
        ["TYPE" | "STRLEN" | "GETRANGE", of, ..] => key(of),
        _ => false,
    }
}

async fn inject(script: &Script, features: &Features, whole: &Samples, command: &[String], fault: &Fault) {
    let what = format!("{fault:?} for {command:?}");
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let sampling = Sampling::start(script, features, Some((command, fault))).await;
    let right = |page: &Page| {
        let shown = of_sampler(page);
        let wrong: Vec<_> =
            shown.iter().filter(|(sample, value)| whole.get(*sample) != Some(value)).collect();
        assert!(wrong.is_empty(), "{what}: {wrong:?}");
        shown
    };
    let may_miss = |sample: &str| *fault == Fault::Cut || comes_from(&words, sample);
    sampling
        .until(&what, |page| {
            let shown = right(page);
            // A stub that cuts does not note the commands.
            let sent = || sampling.stub.commands().iter().any(|sent| sent == command);
            let went_on = walked(page) || page.value("redis_key_sampler_errors_total", &[]) > Some(0.0);
            let lost = whole.keys().any(|sample| !shown.contains_key(sample) && !may_miss(sample));
            went_on && !lost && (*fault == Fault::Cut || sent())
        })
        .await;
    if *fault != refusal() {
        sampling.stub.heal();
        sampling.until(&format!("after {what}"), |page| right(page) == *whole).await;
    }
}

#[tokio::test]
async fn a_wrong_reply_to_the_sampler_costs_its_own_samples_only() {
    let script = recorded();
    for features in kinds() {
        let error_free = Sampling::start(&script, &features, None).await;
        let page = error_free.until("the error-free run", walked).await;
        let whole = of_sampler(&page);
        assert!(whole.contains_key("redis_keys_count{db=\"db0\",key=\"p:*\"}"), "{whole:?}");
        assert_eq!(*error_free.stub.unknown.lock().unwrap(), Vec::<Vec<String>>::new());
        let mut commands: BTreeSet<Vec<String>> = error_free.stub.commands().into_iter().collect();
        commands.insert(vec!["INFO".to_owned(), "COMMANDSTATS".to_owned()]);
        commands.retain(|command| command[0] != "CLIENT");
        assert!(commands.len() > 5, "{commands:?}");
        let (faults, mut runs) = (faults(), Vec::new());
        for command in &commands {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let wrong = faults.iter().filter(|fault| !is_an_answer(&words, fault));
            runs.extend(wrong.map(|fault| inject(&script, &features, &whole, command, fault)));
        }
        join_all(runs).await;
    }
}
