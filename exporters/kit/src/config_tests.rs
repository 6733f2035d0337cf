//! Tests of the configuration reader and of the values in it.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    #[serde(default)]
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read from YAML")]
struct Target {
    port: u16,
    #[serde(default)]
    timeout: GoDuration,
    password: Option<Secret>,
}

fn error(text: &str) -> String {
    parse::<Sample>(text, "exporter.yml").unwrap_err().to_string()
}

#[test]
fn an_unknown_key_is_shown_in_its_place() {
    let message = error("targets:\n  - port: 1\n    pasword: x\n");
    assert!(message.starts_with("exporter.yml:3:5: "), "{message}");
    assert!(message.contains("pasword") && message.contains("password"), "{message}");
    assert!(message.contains("2 |   - port: \u{2026}"), "the snippet is missing: {message}");
}

#[test]
fn a_wrong_value_is_shown_in_its_place() {
    let message = error("targets:\n  - port: many\n");
    assert!(message.starts_with("exporter.yml:2:11: "), "{message}");
    let message = error("targets:\n  - port: 1\n    timeout: soon\n");
    assert!(message.starts_with("exporter.yml:3:14: ") && message.contains("such as 250ms"), "{message}");
}

#[test]
fn an_error_shows_no_value_but_the_one_it_is_about() {
    for text in [
        "targets:\n  - port: 1\n    password: hunter2\n    pasword: x\n",
        "targets:\n  - port: 1\n    pasword: hunter2\n",
        "targets:\n  - {port: 1, pasword: hunter2}\n",
        "targets:\n  - {password: hunter2, port: many}\n",
        "targets:\n  - password: |\n      hunter2\n    prot: 1\n",
        "targets:\n  - port: 1\n    password: [hunter2]\n",
        "targets:\n  - port: 1\n    password: {fil: hunter2}\n",
        "targets:\n  - password: hunter2\n   port: 1\n",
        "targets: many\n  - password: hunter2\n",
        "targets:\n  - port: 1\n    password: \"hunter2\n",
        "targets:\n  - port: 1\n    password: @hunter2\n",
        "targets:\n  - port: 1\n    password: %hunter2\n",
        "targets:\n  - port: 1\n    password: *hunter2\n",
        "targets:\n  - port: 1\n    password: hunter2: x\n",
        "targets:\n  - port: 1\n    password: hunter2\n    password: hunter2\n",
    ] {
        let Err(error) = parse::<Sample>(text, "exporter.yml") else { panic!("accepted: {text}") };
        let message = error.to_string();
        assert!(!message.contains("hunter2"), "{message}");
        assert!(message.starts_with("exporter.yml:") && !message.starts_with("exporter.yml:0"), "{message}");
    }
}

#[test]
fn a_number_as_a_secret_is_to_be_quoted() {
    for value in ["8675309", "0123", "1.5", "true"] {
        let message = error(&format!("targets:\n  - port: 1\n    password: {value}\n"));
        assert!(message.contains("quote a number") && !message.contains(value), "{message}");
    }
}

#[test]
fn the_place_is_marked() {
    assert_eq!(
        error("targets:\n  - port: 1\n    pasword: x\n"),
        "exporter.yml:3:5: unknown field `pasword`, expected one of port, timeout, password\n    1 | targets:\n    2 |   - port: \u{2026}\n    3 |     pasword: \u{2026}\n      |     ^"
    );
}

#[test]
fn of_a_line_with_many_values_only_the_wrong_one_is_shown() {
    assert_eq!(
        error("targets: [{password: hunter2, port: many, timeout: 1s}]\n"),
        "exporter.yml:1:37: invalid u16\n    1 |                               port: many\n      |                                     ^"
    );
}

#[test]
fn a_missing_file_is_named() {
    let message = load::<Sample>(Path::new("/nonexistent/x.yml")).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/x.yml") && message.contains("check the path"), "{message}");
}

#[test]
fn a_secret_is_never_printed_and_comes_from_three_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "first\n").unwrap();
    let text = format!(
        "targets:\n- {{port: 1, password: hunter2}}\n- {{port: 1, password: {{file: {path:?}}}}}\n- {{port: 1, password: {{env: CARGO_PKG_NAME}}}}\n"
    );
    let sample: Sample = parse(&text, "x").unwrap();
    let reveal = |index: usize| sample.targets[index].password.as_ref().unwrap().reveal().unwrap();
    assert_eq!((reveal(0).as_str(), reveal(1).as_str()), ("hunter2", "first"));
    assert_eq!(reveal(2), std::env::var("CARGO_PKG_NAME").unwrap());
    std::fs::write(&path, "second\n").unwrap();
    assert_eq!(reveal(1), "second");
    let printed = format!("{sample:?} {}", sample.targets[0].password.as_ref().unwrap());
    assert!(printed.contains("***") && !printed.contains("hunter2"), "{printed}");
}

#[test]
fn a_secret_comes_from_a_program() {
    let reveal = |command: &str| {
        let sample: Sample =
            parse(&format!("targets:\n- {{port: 1, password: {{command: {command}}}}}\n"), "x").unwrap();
        sample.targets[0].password.as_ref().unwrap().reveal().map_err(|error| error.to_string())
    };
    assert_eq!(reveal("[printf, 'hunter2 $HOME\\n']"), Ok("hunter2 $HOME".to_owned()));
    for (command, expected) in [
        ("[/nonexistent/program, hunter2]", "program /nonexistent/program: No such file"),
        ("['false', hunter2]", "program false: it ended with exit status: 1"),
    ] {
        let message = reveal(command).unwrap_err();
        assert!(message.contains(expected) && !message.contains("hunter2"), "{message}");
    }
    let message = error("targets:\n- {port: 1, password: {command: []}}\n");
    assert!(message.contains("{command: [program, argument]}"), "{message}");
    let words = ["sleep".to_owned(), "60".to_owned()];
    assert!(printed(&words, Duration::ZERO).unwrap_err().contains("was ended"));
}

#[test]
fn a_secret_that_is_not_there_is_named() {
    let file = Secret::from_file("/nonexistent/secret").reveal().unwrap_err().to_string();
    assert!(file.contains("file /nonexistent/secret"), "{file}");
    let variable = Secret::from_env("EXPORTER_KIT_UNSET").reveal().unwrap_err().to_string();
    assert!(variable.contains("EXPORTER_KIT_UNSET") && variable.contains("not set"), "{variable}");
}

#[test]
fn an_empty_file_is_the_default_where_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.yml");
    std::fs::write(&path, "# nothing\n\n").unwrap();
    assert!(load_or_empty::<std::collections::BTreeMap<String, String>>(&path).unwrap().is_empty());
}

#[test]
fn durations_of_go_and_prometheus() {
    for (text, milliseconds) in [
        ("0", 0),
        ("0s", 0),
        ("250ms", 250),
        ("1m30s", 90_000),
        ("1.5h", 5_400_000),
        (".5s", 500),
        ("1.s", 1_000),
        ("1d", 86_400_000),
        ("2w", 14 * 86_400_000),
        ("1y", 365 * 86_400_000),
        ("1000us", 1),
        ("1000\u{b5}s", 1),
        ("1h0m0.250s", 3_600_250),
    ] {
        assert_eq!(text.parse(), Ok(GoDuration(Duration::from_millis(milliseconds))), "{text}");
    }
    for text in ["", "1", "s", "-1s", "1 s", "1.2.3s", ".s", "1x", "1s2", "99999999999y", "1m 30s"] {
        let error = text.parse::<GoDuration>().unwrap_err().to_string();
        assert!(error.contains(&format!("{text:?}")) && error.contains("1m30s"), "{error}");
    }
}

proptest! {
    #[test]
    fn a_duration_reads_back(nanoseconds in any::<u64>()) {
        let duration = GoDuration(Duration::from_nanos(nanoseconds));
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
    }

    #[test]
    fn any_text_is_a_duration_or_an_error(text in "[0-9.a-z\u{b5} -]{0,40}") {
        let _ = text.parse::<GoDuration>();
    }

    #[test]
    fn a_fraction_is_exact(whole in 0..1_000_000_u64, nanoseconds in 0..1_000_000_000_u32) {
        let text = format!("{whole}.{nanoseconds:09}s");
        prop_assert_eq!(text.parse(), Ok(GoDuration(Duration::new(whole, nanoseconds))));
    }
}
