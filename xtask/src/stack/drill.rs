//! A drill: a stack in which every duration of monitoring is divided by one factor, and whose Alertmanager tells everything
//! to a sink. What follows from the durations stays in proportion: what fires, in which order, and what is muted.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// How the drill differs from a stack that people use.
#[derive(Clone, Debug)]
pub(crate) struct Drill {
    /// How many times faster everything goes.
    pub(crate) factor: u32,
    /// Where notifications go, each to the path of its receiver's name.
    pub(crate) sink: String,
    /// What a stack on one machine does without.
    pub(crate) extras: Option<Extras>,
}

/// URLs of services of others.
#[derive(Clone, Debug)]
pub(crate) struct Extras {
    /// A language model, as OpenAI's.
    pub(crate) model: String,
    /// An API of listings of vehicles.
    pub(crate) listings: String,
    /// A Prometheus that takes what ours writes.
    pub(crate) remote: String,
}

impl Drill {
    /// A duration of `seconds` in the drill.
    pub(crate) fn shortened(&self, seconds: u32) -> String {
        format!("{}ms", seconds * 1000 / self.factor)
    }

    /// Shortens every duration in a configuration or rule file.
    pub(crate) fn hasten_file(&self, path: &Path) -> Result<()> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        fs::write(path, self.hasten(&text)).with_context(|| format!("writing {}", path.display()))
    }

    /// Shortens every duration in a text, except in what people read.
    pub(crate) fn hasten(&self, text: &str) -> String {
        let for_people =
            |line: &str| ["summary:", "description:", "#"].iter().any(|word| line.trim().starts_with(word));
        text.split_inclusive('\n')
            .map(|line| if for_people(line) { line.to_owned() } else { self.hasten_line(line) })
            .collect()
    }

    fn hasten_line(&self, line: &str) -> String {
        let part_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let mut shortened = String::new();
        // Words and what is between them, in turn.
        let mut rest = line;
        while let Some(start) = rest.find(part_of_a_word) {
            let (between, tail) = rest.split_at(start);
            let (word, tail) = tail.split_at(tail.find(|c| !part_of_a_word(c)).unwrap_or(tail.len()));
            shortened.push_str(between);
            match milliseconds(word) {
                Some(duration) => shortened.push_str(&format!("{}ms", duration / u64::from(self.factor))),
                None => shortened.push_str(word),
            }
            rest = tail;
        }
        shortened + rest
    }

    /// Lets every receiver of an Alertmanager configuration tell the sink, at any hour.
    pub(crate) fn to_sink(&self, config: &mut Value) {
        for receiver in config["receivers"].as_array_mut().into_iter().flatten() {
            let name = receiver["name"].as_str().unwrap_or_default().to_owned();
            if name != "null" {
                let url = format!("{}/{name}", self.sink);
                let webhook = json!({"url": url, "send_resolved": name != "dead-man"});
                *receiver = json!({"name": name, "webhook_configs": [webhook]});
            }
        }
        at_any_hour(&mut config["route"]);
    }
}

fn at_any_hour(route: &mut Value) {
    if let Some(settings) = route.as_object_mut() {
        settings.remove("active_time_intervals");
    }
    let routes = route.get_mut("routes").and_then(Value::as_array_mut);
    routes.into_iter().flatten().for_each(at_any_hour);
}

/// What a word such as `5m` stands for; `None` for every other word.
fn milliseconds(word: &str) -> Option<u64> {
    let (number, unit) = word.split_at(word.find(|c: char| !c.is_ascii_digit())?);
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shortened_and_nothing_else_is() {
        let drill = Drill { factor: 5, sink: String::new(), extras: None };
        for (line, shortened) in [
            ("for: 5m\n", "for: 60000ms\n"),
            ("  interval: 30s", "  interval: 6000ms"),
            ("rate(x[5m]) > 0.1", "rate(x[60000ms]) > 0.1"),
            ("sum_over_time(a:b:increase1h[6h:1h])", "sum_over_time(a:b:increase1h[4320000ms:720000ms])"),
            ("x offset 1w > 100", "x offset 120960000ms > 100"),
            ("\"group_wait\":\"0s\"", "\"group_wait\":\"0ms\""),
            ("job:http_errors:rate5m / 5", "job:http_errors:rate5m / 5"),
            ("times: [{start_time: '08:00'}]", "times: [{start_time: '08:00'}]"),
            ("targets: ['127.0.0.1:9093']", "targets: ['127.0.0.1:9093']"),
            ("predict_linear(x[6h], 86400)", "predict_linear(x[4320000ms], 86400)"),
            ("description: 'for 5m'", "description: 'for 5m'"),
            ("# every 15s", "# every 15s"),
            ("1.5e9 > 5e6", "1.5e9 > 5e6"),
        ] {
            assert_eq!(drill.hasten(line), shortened);
        }
    }

    #[test]
    fn every_receiver_tells_the_sink() {
        let drill = Drill { factor: 5, sink: "http://sink".to_owned(), extras: None };
        let mut config = json!({
            "route": {"receiver": "a", "routes": [{"receiver": "null", "active_time_intervals": ["office-hours"]}]},
            "receivers": [{"name": "a", "slack_configs": [{}]}, {"name": "null"}],
        });
        drill.to_sink(&mut config);
        let webhook = json!({"url": "http://sink/a", "send_resolved": true});
        assert_eq!(
            config,
            json!({
                "route": {"receiver": "a", "routes": [{"receiver": "null"}]},
                "receivers": [{"name": "a", "webhook_configs": [webhook]}, {"name": "null"}],
            })
        );
    }
}
