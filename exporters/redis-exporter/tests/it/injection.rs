//! Each reply of a scrape, replaced: no sample may differ from the error-free run, and only what comes from that reply
//! may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exporter_kit::scrape::Selection;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use redis_exporter::lua_pattern::Pattern;
use redis_exporter::options::{ClientGroups, Features, KeyArg, Options, SamplerOptions};
use regex::Regex;
use rstest::rstest;
use testkit::page::samples;
use tokio::time::Instant;

use crate::recording::{CAPTURES, Fault, Script, Stub, script, words};
use crate::support::{read, scrape, scraper};

pub(crate) type Samples = BTreeMap<String, String>;

/// Samples of the server: those about the scrape itself tell of the fault, and some are by our own clock on a server
/// that does not tell the time.
fn of_server(page: &exposition::Page) -> Samples {
    let about_scrape = [
        "redis_exporter_",
        "redis_up",
        "redis_last_key_groups_scrape_duration",
        "redis_connected_client_created_at_timestamp",
        "redis_connected_client_idle_since_timestamp",
    ];
    let kept = samples(page)
        .into_iter()
        .filter(|(sample, _)| about_scrape.iter().all(|prefix| !sample.starts_with(prefix)));
    kept.map(|(sample, value)| (sample, value.to_string())).collect()
}

type SwitchOn = fn(&mut Features);

/// What is off by default.
const FEATURES: &[(&str, SwitchOn)] = &[
    ("keys", |features| features.keys = keys("a,b,c,db2=other")),
    ("patterns", |features| features.patterns = keys("p:*")),
    ("count", |features| features.count = keys("p:*,none:*")),
    ("streams", |features| features.streams = keys("s:1")),
    ("stream patterns", |features| features.stream_patterns = keys("s:*")),
    ("scripts", |features| features.scripts = ["return 1", "return 2"].map(lua).into()),
    ("clients", |features| features.clients = true),
    ("client groups", |features| features.client_groups = Some(ClientGroups::default())),
    ("key groups", |features| features.key_groups = vec![Pattern::new("^(.*):").unwrap()]),
    ("modules", |features| features.modules = true),
    ("search indexes", |features| features.search_indexes = Some(Regex::new("^cars").unwrap())),
    ("tile38", |features| features.tile38 = true),
    ("rdb file", |features| features.rdb_file_size = true),
];

/// What the recorded servers also answer.
const REPLIES: &[(&[&str], &str)] = &[
    (&["SELECT", "0"], "+OK"),
    (&["SELECT", "2"], "+OK"),
    (&["SELECT", "3"], "+OK"),
    (&["TYPE", "a"], "+string"),
    (&["MEMORY", "USAGE", "a"], ":56"),
    (&["STRLEN", "a"], ":2"),
    (&["GETRANGE", "a", "0", "1024"], "$2 42"),
    (&["TYPE", "b"], "+list"),
    (&["MEMORY", "USAGE", "b"], ":100"),
    (&["LLEN", "b"], ":7"),
    (&["TYPE", "c"], "+string"),
    (&["MEMORY", "USAGE", "c"], ":200"),
    (&["STRLEN", "c"], ":5"),
    (&["GETRANGE", "c", "0", "1024"], "$5 hello"),
    (&["TYPE", "other"], "+set"),
    (&["MEMORY", "USAGE", "other"], ":300"),
    (&["SCARD", "other"], ":3"),
    (&["SCAN", "0", "MATCH", "p:*", "COUNT", "1000"], "*2 $2 11 *1 $3 p:1"),
    (&["SCAN", "11", "MATCH", "p:*", "COUNT", "1000"], "*2 $1 0 *2 $3 p:2 $3 p:1"),
    (&["SCAN", "0", "MATCH", "none:*", "COUNT", "1000"], "*2 $1 0 *0"),
    (&["TYPE", "p:1"], "+hash"),
    (&["MEMORY", "USAGE", "p:1"], ":400"),
    (&["HLEN", "p:1"], ":4"),
    (&["TYPE", "p:2"], "+zset"),
    (&["MEMORY", "USAGE", "p:2"], ":500"),
    (&["ZCARD", "p:2"], ":5"),
    (&["SCAN", "0", "MATCH", "s:*", "COUNT", "1000"], "*2 $1 0 *1 $3 s:2"),
    (&["XINFO", "STREAM", "s:1"], "*6 $6 length :2 $6 groups :2 $17 last-generated-id $6 3000-7"),
    (&["XINFO", "STREAM", "s:2"], "*4 $6 length :9 $6 groups :0"),
    (
        &["XINFO", "GROUPS", "s:1"],
        "*2 *6 $4 name $2 g1 $9 consumers :1 $7 pending :2 *6 $4 name $2 g2 $9 consumers :0 $3 lag $-1",
    ),
    (&["XINFO", "GROUPS", "s:2"], "*0"),
    (&["XINFO", "CONSUMERS", "s:1", "g1"], "*1 *6 $4 name $5 alice $7 pending :2 $4 idle :3000"),
    (&["XINFO", "CONSUMERS", "s:1", "g2"], "*0"),
    (&["EVAL", "return 1", "0"], "*2 $1 x $1 1"),
    (&["EVAL", "return 2", "0"], "*2 $1 y :2"),
    (&["SCAN", "0", "MATCH", "*", "COUNT", "1000"], "*2 $1 0 *2 $3 p:1 $3 p:2"),
    (&["FT._LIST"], "*3 $4 cars $8 cars_old $5 users"),
    (&["FT.INFO", "cars"], "*4 $8 num_docs $2 12 $14 number_of_uses :3"),
    (&["FT.INFO", "cars_old"], "*2 $8 num_docs $1 4"),
    (&["SERVER", "EXT"], "*4 $18 tile38_num_objects $1 7 $9 read_only $5 false"),
];

/// Clients of a recorded server.
const CLIENTS: &str = "id=7 addr=h:1 name=web age=10 idle=5 flags=N db=0 qbuf=1 omem=2 tot-mem=10 user=u lib-name=x\n\
    id=8 addr=h:2 name=job age=9 idle=1 flags=b db=2 qbuf=0 omem=3 tot-mem=20 user=u lib-name=x\n";

pub(crate) fn keys(list: &str) -> Vec<KeyArg> {
    KeyArg::parse_list(list).unwrap()
}

fn lua(text: &str) -> redis_exporter::options::Script {
    redis_exporter::options::Script { name: text.to_owned(), text: text.to_owned() }
}

/// Options with these of [`FEATURES`].
fn options(features: &[usize]) -> Options {
    let mut options = Options::default();
    features.iter().for_each(|at| FEATURES[*at].1(&mut options.features));
    options
}

fn everything() -> Vec<usize> {
    (0..FEATURES.len()).collect()
}

/// A configuration whose RDB file is there; `None` for an error.
fn with_rdb_file(parameters: &[u8]) -> Option<Vec<u8>> {
    let (mut parameters, _) = words(parameters, 0)?;
    for pair in parameters.chunks_exact_mut(2) {
        match pair[0].as_str() {
            "dir" => pair[1] = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures").to_owned(),
            "dbfilename" => pair[1] = "redis8.info".to_owned(),
            _ => {}
        }
    }
    let texts: String = parameters.iter().map(|text| format!("${}\r\n{text}\r\n", text.len())).collect();
    Some(format!("*{}\r\n{texts}", parameters.len()).into_bytes())
}

/// A recorded server, and what each collector reads of it.
struct Server {
    name: &'static str,
    stub: Stub,
    /// Samples by collector, and the commands that it sends.
    parts: Vec<(BTreeSet<String>, Vec<Vec<String>>)>,
}

impl Server {
    async fn start(name: &'static str) -> Server {
        let mut script = script(name);
        for (command, reply) in REPLIES {
            let reply = reply.replace(' ', "\r\n");
            script
                .insert(command.iter().map(|&word| word.to_owned()).collect(), format!("{reply}\r\n").into());
        }
        let text = |words: &[&str], text: &str| {
            let words = words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
            (words, format!("${}\r\n{text}\r\n", text.len()).into_bytes())
        };
        script.extend([text(&["CLIENT", "LIST"], CLIENTS)]);
        script.extend([text(&["INFO", "MODULES"], "# Modules\r\nmodule:name=ReJSON,ver=20607,api=1\r\n")]);
        if let Some(parameters) = script.get_mut(&["CONFIG", "GET", "*"].map(str::to_owned)[..]) {
            *parameters = with_rdb_file(parameters).unwrap_or_else(|| parameters.clone());
        }
        Server::of(name, script, options(&everything())).await
    }

    async fn of(name: &'static str, script: Script, options: Options) -> Server {
        let stub = Stub::start(script).await;
        let scraper = scraper(&stub.address, options);
        scrape(&scraper).await;
        let mut parts = Vec::new();
        for collector in scraper.enabled() {
            stub.batches.lock().unwrap().clear();
            let only = Selection::from_filters(&[collector.to_owned()], &[], &scraper.enabled()).unwrap();
            let page = scraper.scrape(only, Instant::now() + Duration::from_secs(20)).await;
            parts.push((of_server(&read(&page)).into_keys().collect(), stub.commands()));
        }
        Server { name, stub, parts }
    }

    /// What a scrape on a kept connection gives, and the commands that it sends.
    async fn whole(&self, options: &Options) -> (Samples, Vec<Vec<String>>) {
        let scraper = scraper(&self.stub.address, options.clone());
        scrape(&scraper).await;
        self.stub.batches.lock().unwrap().clear();
        let whole = of_server(&scrape(&scraper).await);
        (whole, self.stub.commands())
    }

    /// Replaces the reply to one command in a scrape on a kept connection.
    async fn inject(&self, options: &Options, whole: &Samples, command: &[String], fault: &Fault) {
        let Server { name, stub, parts } = self;
        let scraper = scraper(&stub.address, options.clone());
        scrape(&scraper).await;
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        stub.fail(&words, fault.clone());
        let hurt = of_server(&scrape(&scraper).await);
        stub.heal();
        let told = |sample: &str| words[0] == "EVAL" && sample.contains(&how_it_ended(words[1]));
        let different: Vec<_> = hurt
            .iter()
            .filter(|(sample, value)| whole.get(*sample) != Some(value) && !told(sample))
            .collect();
        assert!(different.is_empty(), "{name}: {fault:?} for {command:?}: {different:?}");
        if *fault == Fault::Cut || words[0] == "INFO" && words[1] == "ALL" {
            return;
        }
        let from_it = parts.iter().filter(|(_, commands)| commands.iter().any(|sent| same(sent, command)));
        let from_it: BTreeSet<&String> = from_it.flat_map(|(samples, _)| samples).collect();
        let subjects = subjects(&words);
        let may_miss = |sample: &String| match &subjects[..] {
            [] => from_it.contains(sample),
            subjects => subjects.iter().any(|subject| sample.contains(subject)),
        };
        let lost: Vec<_> =
            whole.keys().filter(|sample| !hurt.contains_key(*sample) && !may_miss(sample)).collect();
        assert!(lost.is_empty(), "{name}: {fault:?} for {command:?} also lost {lost:?}");
        if *fault != refusal() {
            let mended = of_server(&scrape(&scraper).await);
            assert_eq!(mended, *whole, "{name}: after {fault:?} for {command:?}");
        }
    }
}

/// Whether two commands are the same one; what CONFIG GET is asked for depends on the features.
fn same(one: &[String], other: &[String]) -> bool {
    one == other || one[0] == "CONFIG" && other.starts_with(&one[..2])
}

/// The sample that tells of a script.
fn how_it_ended(script: &str) -> String {
    format!("redis_script_result{{filename=\"{script}\"}}")
}

/// What is in the samples that come from a reply about a key, a stream, a group, a script or a database; nothing when the
/// collectors that ask for it tell more.
fn subjects(words: &[&str]) -> Vec<String> {
    match words {
        ["MEMORY", _, key] if key.starts_with("p:") => vec!["key".to_owned()],
        ["TYPE" | "STRLEN" | "LLEN" | "SCARD" | "HLEN" | "ZCARD" | "GETRANGE", key, ..]
        | ["MEMORY", _, key] => vec![format!("key=\"{key}\"")],
        ["XINFO", "CONSUMERS", _, group] => vec![format!("group=\"{group}\"")],
        ["XINFO", _, stream] => vec![format!("stream=\"{stream}\"")],
        ["FT.INFO", index] => vec![format!("index_name=\"{index}\"")],
        ["EVAL", script, _] => vec![format!("filename=\"{script}\"")],
        ["SCAN", _, _, "*", ..] => vec!["key_group".to_owned()],
        ["SCAN", _, _, pattern, ..] => vec![format!("=\"{}", pattern.trim_end_matches('*'))],
        ["SELECT", "0"] => vec!["db=\"db0\"".to_owned(), "script_".to_owned()],
        ["SELECT", database] => vec![format!("db=\"db{database}\"")],
        _ => Vec::new(),
    }
}

pub(crate) fn refusal() -> Fault {
    Fault::Reply(b"-NOPERM injected\r\n".to_vec())
}

/// What replaces a reply.
pub(crate) fn faults() -> Vec<Fault> {
    let lines =
        ["-ERR injected", "-MOVED 1 127.0.0.1:1", "-LOADING injected", "$-1", "*0", ":-7", "+stream", "+OK"];
    let shapes = ["*1 $1 x", "*2 *1 *0 *0", "$1 x", "*2 $1 0 *1 :5"];
    let reply = |text: &&str| Fault::Reply(format!("{}\r\n", text.replace(' ', "\r\n")).into_bytes());
    let error = |text: &&str| Fault::Reply(format!("{text}\r\n").into_bytes());
    lines.iter().map(error).chain(shapes.iter().map(reply)).chain([refusal(), Fault::Cut]).collect()
}

/// Whether the server itself may answer this, which then is no fault.
pub(crate) fn is_an_answer(words: &[&str], fault: &Fault) -> bool {
    let Fault::Reply(reply) = fault else { return false };
    let number = reply.starts_with(b":");
    match words {
        // A type; a value; that a key is gone.
        ["TYPE", ..] => matches!(reply[0], b'+' | b'$' | b':'),
        ["GETRANGE", ..] => reply.starts_with(b"$1"),
        // A key, or that there is none.
        ["RANDOMKEY"] => reply[0] == b'$',
        ["HOTKEYS", ..] => reply == b"$-1\r\n",
        ["MEMORY", ..] => number || reply.starts_with(b"$-1"),
        ["STRLEN" | "LLEN" | "SCARD" | "HLEN" | "ZCARD" | "PTTL", ..] | ["SLOWLOG", "LEN"] => number,
        ["SELECT", ..] => !reply.starts_with(b"-"),
        // What the server says of the quorum.
        ["SENTINEL", "CKQUORUM", ..] => matches!(reply[0], b'+' | b':') || reply.starts_with(b"$1"),
        // An empty log or list.
        ["SLOWLOG" | "COMMANDLOG" | "LATENCY" | "CONFIG" | "SENTINEL", ..] => reply == b"*0\r\n",
        _ => false,
    }
}

/// Every fault of every reply.
async fn inject_all(name: &'static str, features: &[usize]) {
    let server = Server::start(name).await;
    let options = options(features);
    let (_, commands) = server.whole(&options).await;
    assert!(commands.len() > 3, "{commands:?}");
    inject_each(&server, &options, commands).await;
}

async fn inject_each(server: &Server, options: &Options, commands: Vec<Vec<String>>) {
    let (whole, _) = server.whole(options).await;
    for command in commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        for fault in faults().iter().filter(|fault| !is_an_answer(&words, fault)) {
            server.inject(options, &whole, &command, fault).await;
        }
    }
}

#[tokio::test]
async fn a_wrong_reply_about_hot_keys_costs_their_samples_only() {
    let mut script = script("redis8");
    let info = script.get_mut(&["INFO", "ALL"].map(str::to_owned)[..]).unwrap();
    *info = String::from_utf8(info.clone()).unwrap().replace(":8.0.6\r", ":8.6.3\r").into_bytes();
    let asked = ["HOTKEYS", "GET"].map(str::to_owned).to_vec();
    let reply = "*1 *6 $15 tracking-active :1 $14 by-cpu-time-us *2 $1 a :89 $12 by-net-bytes *2 $1 a :288";
    script.insert(asked.clone(), format!("{}\r\n", reply.replace(' ', "\r\n")).into_bytes());
    let sampler = Some(SamplerOptions { insight: true, ..SamplerOptions::default() });
    let options = Options { features: Features { sampler, ..Features::default() }, ..Options::default() };
    let server = Server::of("redis8", script, options.clone()).await;
    let (whole, _) = server.whole(&options).await;
    assert!(whole.contains_key("redis_hot_key_cpu_seconds{key=\"a\"}"), "{whole:?}");
    inject_each(&server, &options, vec![asked]).await;
}

#[rstest]
#[tokio::test]
async fn a_wrong_reply_costs_its_own_samples_only(
    #[values("cluster", "redis62", "redis8", "replica", "sentinel", "standalone", "valkey")]
    name: &'static str,
) {
    inject_all(name, &[]).await;
}

#[tokio::test]
async fn a_wrong_reply_costs_its_own_samples_only_with_all_features() {
    inject_all("standalone", &everything()).await;
}

#[test]
fn any_wrong_reply_with_any_features_costs_its_own_samples_only() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut servers = Vec::new();
    for name in CAPTURES {
        servers.push(runtime.block_on(Server::start(name)));
    }
    let some = subsequence(everything(), 0..=FEATURES.len());
    proptest!(|(server in 0..CAPTURES.len(), some in some, at in any::<Index>(), fault in select(faults()))| {
        runtime.block_on(async {
            let (server, options) = (&servers[server], options(&some));
            let (whole, commands) = server.whole(&options).await;
            let command = at.get(&commands);
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            if !is_an_answer(&words, &fault) {
                server.inject(&options, &whole, command, &fault).await;
            }
        });
    });
}

#[tokio::test]
async fn every_feature_has_samples_that_a_reply_can_cost() {
    let server = Server::start("standalone").await;
    let (plain, _) = server.whole(&options(&[])).await;
    for (at, (name, _)) in FEATURES.iter().enumerate() {
        let (whole, commands) = server.whole(&options(&[at])).await;
        assert!(whole.len() > plain.len(), "{name}: {commands:?}");
    }
    let unknown = server.stub.unknown.lock().unwrap().clone();
    assert_eq!(unknown, Vec::<Vec<String>>::new());
}

#[tokio::test]
async fn a_cut_inside_info_is_mended_by_a_new_connection() {
    let stub = Stub::start(script("standalone")).await;
    let scraper = scraper(&stub.address, Options::default());
    let whole = of_server(&scrape(&scraper).await);
    stub.fail(&["INFO", "ALL"], Fault::CutOnce);
    assert_eq!(of_server(&scrape(&scraper).await), whole);
}
