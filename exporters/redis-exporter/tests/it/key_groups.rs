//! Keys by group: our matching of Lua patterns beside the server's own, and the groups of real databases.

use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use redis_exporter::lua_pattern::Pattern;
use redis_exporter::options::{Features, Options, SamplerOptions};
use rstest::rstest;
use testkit::redis::Version::{Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9};
use testkit::redis::{Redis, Value, Version};

use crate::insight::eventually;
use crate::live::{failed, up};
use crate::support::{scrape, scraper};

/// Gives for each pair of a pattern and a key what the pattern captures, joined, or nil.
const CAPTURES: &str = "local out = {} \
    for i = 1, #ARGV, 2 do \
      local found = {string.find(ARGV[i + 1], ARGV[i])} \
      if found[1] then out[#out + 1] = table.concat({unpack(found, 3)}) else out[#out + 1] = false end \
    end \
    return out";

#[tokio::test]
async fn patterns_match_as_the_servers_lua_does() {
    let server = Redis::start().await.unwrap();
    let part = "[abz1:_%-]|\\.|%[adlswuxpcz]|%[ADLSWUXP]|\\[\\^?[ab1:]{1,3}\\]|\\[a-c%d\\]|%b\\(\\)|%f\\[%w\\]|\\(\\)";
    let parts = format!("(({part})[*+?-]?|\\(({part})[*+-]?({part})?\\)){{0,4}}");
    let pattern = format!("\\^?{parts}({parts}%1)?\\$?");
    let pairs = (pattern.as_str(), "[abzAB1:_() .-]{0,12}");
    let mut runner = TestRunner::deterministic();
    let mut cases = Vec::new();
    while cases.len() < 4_000 {
        let (pattern, key): (String, String) = pairs.new_tree(&mut runner).unwrap().current();
        if let Ok(parsed) = Pattern::new(&pattern) {
            cases.push((pattern, key, parsed));
        }
    }
    let mut words = vec!["EVAL", CAPTURES, "0"];
    words.extend(cases.iter().flat_map(|(pattern, key, _)| [pattern.as_str(), key]));
    let Value::Array(theirs) = server.command(&words).unwrap() else { panic!("not an array") };
    assert_eq!(theirs.len(), cases.len());
    let mut found = 0;
    for ((pattern, key, parsed), theirs) in cases.iter().zip(theirs) {
        let ours = parsed.captures(key.as_bytes());
        found += usize::from(ours.as_ref().is_some_and(|text| !text.is_empty()));
        let ours = ours.map_or(Value::Nil, |text| Value::Text(String::from_utf8(text).unwrap()));
        assert_eq!(ours, theirs, "{pattern:?} in {key:?}");
    }
    assert!(found > 200, "only {found} cases capture anything");
}

fn options(sampler: Option<SamplerOptions>) -> Options {
    let key_groups = Pattern::parse_list("^(user):,^(job):%d+:(.*)$").unwrap();
    let features = Features { key_groups, max_key_groups: 3, batch: 50, sampler, ..Features::default() };
    Options { features, ..Options::default() }
}

#[rstest]
#[tokio::test]
async fn keys_are_counted_and_weighed_by_group(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
    #[values(None, Some(SamplerOptions { budget: Duration::from_millis(900), insight: false, top: 5 }))]
    sampler: Option<SamplerOptions>,
) {
    let server = Redis::builder().version(version).start().await.unwrap();
    let script = "for i = 1, 300 do redis.call('SET', 'user:' .. i, 'x') end \
        for i = 1, 40 do redis.call('SET', 'job:' .. i .. ':run', string.rep('x', 1000)) end \
        for i = 1, 7 do redis.call('SET', 'job:' .. i .. ':end', 'x') end \
        for i = 1, 5 do redis.call('SET', 'other' .. i, 'x') end";
    server.command(&["EVAL", script, "0"]).unwrap();
    server.command(&["COPY", "other1", "other1", "DB", "2"]).unwrap();
    let scraper = scraper(&server.url(), options(sampler));
    let task = scraper.source().sampler().map(|sampler| tokio::spawn(sampler.run()));
    let both = |page: &exposition::Page| page.samples("redis_number_of_distinct_key_groups").count() == 2;
    let page = eventually(&scraper, "both databases", both).await;
    if let Some(task) = task {
        task.abort();
    }
    let group = |family: &str, db: &str, group: &str| {
        page.value(&format!("redis_key_group_{family}"), &[("db", db), ("key_group", group)])
    };
    let memory_of =
        |key: &str| -> f64 { server.command(&["MEMORY", "USAGE", key]).unwrap().text().parse().unwrap() };
    assert_eq!(group("count", "db0", "user"), Some(300.0));
    assert_eq!(group("count", "db0", "jobrun"), Some(40.0));
    assert_eq!(group("count", "db0", "jobend"), Some(7.0));
    assert_eq!(group("count", "db0", "overflow"), Some(5.0));
    assert_eq!(group("count", "db2", "unclassified"), Some(1.0));
    assert_eq!(page.value("redis_number_of_distinct_key_groups", &[("db", "db0")]), Some(4.0));
    assert_eq!(group("memory_usage_bytes", "db0", "overflow"), Some(memory_of("other1") * 5.0));
    let run: f64 = (1..=40).map(|i| memory_of(&format!("job:{i}:run"))).sum();
    assert_eq!(group("memory_usage_bytes", "db0", "jobrun"), Some(run));
}

#[tokio::test]
async fn groups_of_a_walk_that_is_refused_are_absent() {
    let server = Redis::start().await.unwrap();
    server.command(&["SET", "user:1", "x"]).unwrap();
    let url = server.acl_user("exporter", "secret", &["+@all", "-memory", "~*"]).unwrap();
    let page = scrape(&scraper(&url, options(None))).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec!["key_groups: permission".to_owned()]));
    assert!(page.family("redis_key_group_count").is_none());
}
