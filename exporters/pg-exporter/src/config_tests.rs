//! Which targets are allowed, and with which credentials.

use exporter_kit::config::parse;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

const FILE: &str = "
auth_modules:
  main:
    type: userpass
    userpass: {username: monitor, password: s3cret}
    options: {sslmode: disable}
  other:
    type: userpass
    userpass: {username: other, password: s3cret}
targets:
  - match: ['db-*.example', 'db-*.example:6000', '[::1]:*', '/run/pg*']
    auth_modules: [main]
    labels: {team: a}
  - match: ['open.example:*', 'one.example:5433']
";

fn config() -> Config {
    let config: Config = parse(FILE, "config").unwrap();
    config.check().unwrap();
    config
}

fn connect(target: &str, module: Option<&str>) -> Result<String, Refusal> {
    let environment = Environment::new([("USER", "me"), ("PGPASSWORD", "s3cret"), ("PGHOST", "own")]);
    config().connector(target, module, &environment).map(|connector| connector.dsn().to_string())
}

#[rstest]
#[case("db-1.example", Some("main"), "host=db-1.example user=monitor sslmode=disable")]
#[case(
    "postgresql://u:p@DB-1.example:6000/app?sslmode=require",
    Some("main"),
    "host=DB-1.example port=6000 user=monitor dbname=app sslmode=disable"
)]
#[case(
    "host=db-1.example dbname=app",
    Some("main"),
    "host=db-1.example user=monitor dbname=app sslmode=disable"
)]
#[case("u:p@open.example:7/app", None, "host=open.example port=7 user=u dbname=app password=***")]
#[case("[::1]:7", Some("main"), "host=::1 port=7 user=monitor sslmode=disable")]
#[case("host=/run/pg15", Some("main"), "host=/run/pg15 user=monitor sslmode=disable")]
#[case(
    "db-1.example,db-2.example",
    Some("main"),
    "host=db-1.example,db-2.example user=monitor sslmode=disable"
)]
fn allowed(#[case] target: &str, #[case] module: Option<&str>, #[case] expected: &str) {
    assert_eq!(connect(target, module).unwrap(), expected);
}

#[rstest]
#[case("evil.example", None, "not allowed")]
#[case("db-1.example:6001", Some("main"), "not allowed")]
#[case("db-1.example", Some("other"), "auth_module \"other\" is not allowed")]
#[case("open.example:1", Some("main"), "auth_module \"main\" is not allowed")]
#[case("db-1.example,evil.example", Some("main"), "evil.example")]
#[case("postgresql://db-1.example@evil.example/", Some("main"), "evil.example")]
#[case("postgresql://db-1.example/?host=evil.example", Some("main"), "evil.example")]
#[case("postgresql://evil.example/db-1.example", Some("main"), "evil.example")]
#[case("/run/pg15", Some("main"), "no host")]
#[case("host=/run/other", Some("main"), "/run/other")]
fn not_allowed(#[case] target: &str, #[case] module: Option<&str>, #[case] part: &str) {
    let refusal = connect(target, module).unwrap_err();
    assert!(refusal.to_string().contains(part), "{refusal}");
}

#[rstest]
#[case("host=db-1.example hostaddr=127.0.0.1", None, "hostaddr")]
#[case("host=db-1.example passfile=/etc/passwd", None, "passfile")]
#[case("db-1.example?sslkey=/x", None, "sslkey")]
#[case("db-1.example?options=-cx=y", None, "options")]
#[case("service=own", None, "service")]
#[case("", None, "no host")]
#[case("dbname=x", None, "no host")]
#[case("db-1.example", Some("nobody"), "nobody")]
#[case("db-1.example:x", Some("main"), "port")]
fn bad(#[case] target: &str, #[case] module: Option<&str>, #[case] part: &str) {
    let refusal = connect(target, module).unwrap_err();
    assert!(matches!(refusal, Refusal::Bad(_)) && refusal.to_string().contains(part), "{refusal}");
}

#[test]
fn mistakes_in_the_file_are_named() {
    let wrong = |text: &str| match parse::<Config>(text, "config") {
        Ok(config) => config.check().unwrap_err(),
        Err(error) => error.to_string(),
    };
    for (text, part) in [
        ("auth_modules: {a: {type: oauth, userpass: {username: u}}}", "userpass"),
        ("auth_modules: {a: {type: userpass}}", "userpass"),
        ("auth_modules: {a: {type: userpass, userpass: {username: ''}}}", "username"),
        ("auth_modules: {a: {type: userpass, userpass: {username: u, pasword: s3cret}}}", "pasword"),
        (
            "auth_modules: {a: {type: userpass, userpass: {username: u}, options: {'ssl mode': x}}}",
            "ssl mode",
        ),
        ("targets: [{match: [a], auth_modules: [b]}]", "\"b\""),
    ] {
        let message = wrong(text);
        assert!(message.contains(part), "{text}: {message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
}

#[test]
fn only_what_is_written_out_is_listed() {
    let config = config();
    let listed: Vec<_> = config.listed().map(|(target, entry)| (target, entry.labels.len())).collect();
    assert_eq!(listed, [("one.example:5433", 0)]);
}

proptest! {
    #[test]
    fn no_target_makes_it_panic_or_reaches_another_host(target in any::<String>()) {
        let _ = connect(&target, Some("main"));
    }

    #[test]
    fn whatever_is_connected_to_is_allowed(
        user in "[a-z@:/?#%.-]{0,8}", host in "(db-1\\.example|evil|\\[::1\\]|/run/pg)", rest in "[a-z@:/?#&=,.0-9-]{0,16}"
    ) {
        let config = config();
        let environment = Environment::new([("USER", "me")]);
        if let Ok(connector) = config.connector(&format!("{user}{host}{rest}"), Some("main"), &environment) {
            let patterns = &config.targets[0].patterns;
            for host in connector.dsn().hosts() {
                prop_assert!(patterns.iter().any(|pattern| fits(pattern, host)), "{host}");
            }
        }
    }

    #[test]
    fn a_plain_target_is_read_back(host in "db-[a-z0-9]{1,8}\\.example", dbname in "[a-zA-Z0-9_]{1,12}") {
        let shown = connect(&format!("{host}:6000/{dbname}"), Some("main")).unwrap();
        prop_assert_eq!(shown, format!("host={host} port=6000 user=monitor dbname={dbname} sslmode=disable"));
    }
}
