//! Both writers agree with `prometheus-client`: the same observations, put into its metrics and into a snapshot, give
//! pages with the same families, types, help, series and values, in both formats.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use exposition::bridge::encode_registry;
use exposition::{Desc, Format, Page, Snapshot, openmetrics, parse, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use proptest::prelude::*;

const BOUNDS: [f64; 4] = [0.005, 0.1, 1.0, 250.0];

/// What happened, by the value of the label.
type Observed = BTreeMap<String, (u32, f64, Vec<f64>)>;

fn registry(observed: &Observed) -> Registry {
    let requests = Family::<Vec<(String, String)>, Counter>::default();
    let temperature = Family::<Vec<(String, String)>, Gauge<f64, AtomicU64>>::default();
    let wait = Family::<Vec<(String, String)>, Histogram>::new_with_constructor(|| Histogram::new(BOUNDS));
    for (value, (count, degrees, waited)) in observed {
        let labels = vec![("path".to_owned(), value.clone())];
        requests.get_or_create_owned(&labels).inc_by(u64::from(*count));
        temperature.get_or_create_owned(&labels).set(*degrees);
        let wait = wait.get_or_create(&labels);
        waited.iter().for_each(|seconds| wait.observe(*seconds));
    }
    let mut registry = Registry::default();
    registry.register("requests", "Requests", requests);
    registry.register("temperature", "Degrees", temperature);
    registry.register("wait_seconds", "Wait", wait);
    registry.register("build", "Build", Info::new(vec![("version", "1.2 \"rc\"")]));
    registry
}

fn snapshot(observed: &Observed) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let table = snapshot.table(&["path"]);
    let requests = table.column(&Desc::counter("requests_total", "Requests."));
    let temperature = table.column(&Desc::gauge("temperature", "Degrees."));
    let wait = table.histogram(&Desc::histogram("wait_seconds", "Wait."), &BOUNDS);
    for (value, (count, degrees, waited)) in observed {
        let upto =
            |bound: f64| waited.iter().filter(|seconds| **seconds <= bound).fold(0.0, |sum, _| sum + 1.0);
        let cumulative = BOUNDS.map(|bound| Some(upto(bound)));
        let sum = waited.iter().fold(0.0, |sum, seconds| sum + seconds);
        let mut row = table.row(&[value]);
        row.set(requests, f64::from(*count)).set(temperature, *degrees);
        row.histogram(&wait, &cumulative, upto(f64::INFINITY), Some(sum));
    }
    let build = snapshot.table(&["version"]);
    let info = build.column(&Desc::info("build_info", "Build."));
    build.row(&["1.2 \"rc\""]).set(info, 1.0);
    snapshot.seal();
    snapshot
}

/// Families in a comparable form: the order of families, series and labels is no difference, nor is that text format
/// 0.0.4 writes a bound as `1` where the client writes `1.0`.
fn families(page: Page) -> BTreeMap<String, String> {
    let family = |family: parse::Family| {
        let mut samples: Vec<_> = family.samples.into_iter().map(sample).collect();
        samples.sort();
        (family.name, format!("{:?} {:?}\n{}", family.kind, family.help, samples.join("\n")))
    };
    page.families.into_iter().map(family).collect()
}

fn sample(mut sample: parse::Sample) -> String {
    for (name, value) in &mut sample.labels {
        if let ("le", Ok(bound)) = (name.as_str(), value.parse::<f64>()) {
            *value = bound.to_string();
        }
    }
    sample.labels.sort();
    format!("{} {:?} {:?}", sample.name, sample.labels, sample.value)
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>().prop_filter("finite", |value| value.is_finite()), -1e3..1e3]
}

proptest! {
    #[test]
    fn the_pages_are_the_clients(
        observed in prop::collection::btree_map(
            prop_oneof![".*", "[\\\\\"\n{},=# a]*"],
            (any::<u32>(), finite(), prop::collection::vec(prop_oneof![0.0..2.0, 0.0..1e6], 0..8)),
            1..8,
        ),
    ) {
        let (registry, snapshot) = (registry(&observed), snapshot(&observed));
        let client = |format| {
            let mut out = String::new();
            encode_registry(&registry, format, &mut out).map(|()| out)
        };

        let mut ours = String::new();
        text::encode(&snapshot, &mut ours);
        let theirs = client(Format::Text)?;
        prop_assert_eq!(families(parse::page(&ours)?), families(parse::page(&theirs)?));

        let mut ours = String::new();
        openmetrics::encode(&snapshot, &mut ours);
        ours.push_str(openmetrics::EOF);
        let theirs = client(Format::OpenMetrics)? + openmetrics::EOF;
        prop_assert_eq!(families(parse::openmetrics(&ours)?), families(parse::openmetrics(&theirs)?));

        // And back: the snapshot as a collector of a registry.
        let mut bridged = Registry::default();
        let without_info = |mut families: BTreeMap<String, String>| {
            // The client's encoder has no info beside its own type.
            families.retain(|name, _| !name.starts_with("build"));
            families
        };
        bridged.register_collector(Box::new(snapshot));
        let mut theirs = String::new();
        encode_registry(&bridged, Format::OpenMetrics, &mut theirs)?;
        theirs.push_str(openmetrics::EOF);
        prop_assert_eq!(
            without_info(families(parse::openmetrics(&ours)?)),
            without_info(families(parse::openmetrics(&theirs)?))
        );
    }
}
