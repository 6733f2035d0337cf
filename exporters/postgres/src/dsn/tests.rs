//! What connection strings mean, with explicit environments.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn parse(text: &str) -> Dsn {
    Dsn::parse_in(text, &Environment::new([("USER", "osuser")])).unwrap()
}

fn error(text: &str) -> String {
    Dsn::parse_in(text, &Environment::new([("USER", "osuser")])).unwrap_err().to_string()
}

fn hosts(dsn: &Dsn) -> Vec<String> {
    dsn.hosts().iter().map(Host::to_string).collect()
}

#[test]
fn uri_parts() {
    let dsn = parse(
        "postgresql://b%40b:p%2Fw%3A@db.example:6000/sh%20op?application_name=my%20app&sslmode=disable",
    );
    assert_eq!((dsn.user(), dsn.dbname(), dsn.application_name()), ("b@b", "sh op", Some("my app")));
    assert_eq!(dsn.password, Some(Password("p/w:".into())));
    assert_eq!(dsn.server_label(), "db.example:6000");
    assert_eq!(dsn.tls().mode, SslMode::Disable);
}

#[test]
fn uri_hosts() {
    assert_eq!(hosts(&parse("postgres://h1:1,h2,h3:3/d")), ["h1:1", "h2:5432", "h3:3"]);
    assert_eq!(hosts(&parse("postgres://h1,h2/d?port=7")), ["h1:7", "h2:7"]);
    assert_eq!(hosts(&parse("postgres://[2001:db8::1]:6000,[::1]/d")), ["[2001:db8::1]:6000", "[::1]:5432"]);
    assert_eq!(hosts(&parse("postgres:///d?host=/run/pg&port=15401")), ["/run/pg:15401"]);
    assert_eq!(hosts(&parse("postgres://%2Frun%2Fpg/d")), ["/run/pg:5432"]);
    assert_eq!(parse("postgres://bob@/?host=x").dbname(), "bob");
    assert_eq!(parse("postgres://u:a@b@h/d").password, Some(Password("a@b".into())));
    assert_eq!(parse("postgres://h/d?ssl=true").tls().mode, SslMode::Require);
    for empty in ["postgres://", "postgresql:///", "postgres://@/", "postgres://:@:/?", "", "  "] {
        let dsn = parse(empty);
        assert_eq!((dsn.user(), dsn.dbname(), dsn.hosts()[0].port), ("osuser", "osuser", 5432), "{empty:?}");
    }
}

#[test]
fn keyword_values() {
    let dsn = parse(r"host = db  user='my \'user\\' password=a\ b dbname='' port='' connect_timeout=3");
    assert_eq!((dsn.user(), dsn.dbname()), (r"my 'user\", r"my 'user\"));
    assert_eq!(dsn.password, Some(Password("a b".into())));
    assert_eq!((hosts(&dsn), dsn.connect_timeout), (vec!["db:5432".into()], Some(Duration::from_secs(3))));
    assert_eq!(parse("host=a host=b").server_label(), "b:5432");
    assert_eq!(hosts(&parse("host=a,b hostaddr=10.0.0.1,10.0.0.2 port=1,2")), ["a:1", "b:2"]);
    assert_eq!(parse("hostaddr=10.0.0.1").server_label(), "10.0.0.1:5432");
}

#[test]
fn server_parameters_become_options() {
    let dsn = parse("options='-c geqo=off' statement_timeout=5000 search_path='a, b\\\\'");
    assert_eq!(dsn.options.as_deref(), Some(r"-c geqo=off -c search_path=a,\ b\\ -c statement_timeout=5000"));
    assert_eq!(
        parse("gssencmode=disable client_encoding=latin1 krbsrvname=x binary_parameters=yes").options,
        None
    );
}

#[test]
fn tls_meaning() {
    assert_eq!(parse("host=h").tls().mode, SslMode::Prefer);
    assert_eq!(parse("sslrootcert=system").tls().mode, SslMode::VerifyFull);
    let modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
    let parsed: Vec<SslMode> =
        modes.iter().map(|mode| parse(&format!("sslmode={mode}")).tls().mode).collect();
    assert!(parsed.is_sorted() && parsed.windows(2).all(|pair| pair[0] != pair[1]));
    let tls = parse("ssl_min_protocol_version=TLSv1.3 sslsni=0 sslmode=require sslnegotiation=direct")
        .tls()
        .clone();
    assert!(!tls.allow_tls12 && tls.allow_tls13 && !tls.sni && tls.direct);
}

#[test]
fn errors_name_the_fix_and_no_secret() {
    for (text, part) in [
        ("host=h sslmode=maybe", "use one of: disable, allow"),
        ("postgres://u:s3cret/x@h/d", "percent-encode"),
        ("postgres://u:s3cret%zz@h/d", "two hex digits"),
        ("postgres://h/d?s3cret", "no \"=\""),
        ("postgres://[::1/d", "closing"),
        ("host=h password=top s3cret", "quote values"),
        ("host=h password='s3cret", "\"password\" does not end"),
        ("password=x s3cret$%=1", "keyword has characters"),
        ("host=a,b port=1,2,3", "3 ports for 2 hosts"),
        ("port=0", "1 to 65535"),
        ("port=s3cret", "1 to 65535"),
        ("hostaddr=s3cret", "not an IP address"),
        ("sslrootcert=system sslmode=require", "needs sslmode=verify-full"),
        ("sslpassword=s3cret", "openssl pkey"),
        ("gssencmode=require", "disable, prefer"),
        ("require_auth=scram-sha-256", "leave it out"),
        ("sslcrl=/x", "not supported"),
        ("target_session_attrs=leader", "prefer-standby"),
        ("connect_timeout=soon", "whole number"),
        ("service=none", "PGSERVICEFILE"),
        ("sslnegotiation=direct", "sslmode=require"),
        ("ssl_max_protocol_version=TLSv1.1", "TLSv1.2"),
    ] {
        let message = error(text);
        assert!(message.contains(part), "{text}: {message}");
        assert!(!message.contains("s3cret"), "{text}: {message}");
    }
    assert!(Dsn::parse_in("", &Environment::default()).unwrap_err().to_string().contains("PGUSER"));
}

#[test]
fn string_beats_service_beats_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("services");
    std::fs::write(&file, "[shop]\nhost=service\nport=1\npassword=fromfile\n").unwrap();
    let environment = Environment::new([
        ("PGSERVICEFILE", file.to_str().unwrap()),
        ("PGSERVICE", "shop"),
        ("PGHOST", "env"),
        ("PGPORT", "2"),
        ("PGUSER", "env"),
        ("PGDATABASE", "env"),
        ("PGSSLMODE", "disable"),
        ("PGAPPNAME", ""),
        ("HOME", "/home/x"),
    ]);
    let dsn = Dsn::parse_in("port=3 dbname=string", &environment).unwrap();
    assert_eq!((dsn.server_label().as_str(), dsn.user(), dsn.dbname()), ("service:3", "env", "string"));
    assert_eq!(dsn.password, Some(Password("fromfile".into())));
    assert_eq!((dsn.tls().mode, dsn.application_name()), (SslMode::Disable, None));
    assert_eq!(dsn.passfile(), Some(Path::new("/home/x/.pgpass")));
    assert_eq!(Dsn::from_env(&environment).unwrap().server_label(), "service:1");
}

#[test]
fn passwords_are_found_for_each_host() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pgpass");
    std::fs::write(&file, "a:*:*:*:for-a\nlocalhost:*:*:*:for-socket\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let dsn = parse(&format!("host=a,b,/tmp passfile={}", file.display()));
    let found: Vec<Option<Password>> = dsn.hosts().iter().map(|host| dsn.password_for(host)).collect();
    assert_eq!(found, [Some(Password("for-a".into())), None, Some(Password("for-socket".into()))]);
    let own = dsn.with_credentials("eve", Some("given"));
    assert_eq!(own.password_for(&own.hosts()[1]), Some(Password("given".into())));
}

#[test]
fn nothing_shows_the_password() {
    let dsn = parse("postgres://u:s3cret@h/d").with_dbname("e").with_credentials("v", Some("s3cret"));
    for text in [dsn.to_string(), format!("{dsn:?}"), dsn.redacted(), format!("{:?}", dsn.password)] {
        assert!(!text.contains("s3cret") && text.contains("***"), "{text}");
    }
    assert_eq!(dsn.to_string(), "host=h user=v dbname=e password=***");
    assert!(!dsn.with_credentials("w", None).to_string().contains("password"));
}

fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

proptest! {
    #[test]
    fn parsing_never_panics(text in any::<String>()) {
        let _ = Dsn::parse_in(&text, &Environment::default());
        let _ = Dsn::parse_in(&format!("postgres://{text}"), &Environment::default());
    }

    #[test]
    fn keyword_round_trip(params in prop::collection::btree_map("[a-z_]{1,9}", any::<String>(), 0..6)) {
        prop_assert_eq!(keyword::parse(&keyword::format(&params)).unwrap(), params);
    }

    #[test]
    fn uri_round_trip(
        [user, password, dbname, app] in prop::array::uniform4("[^\0]{1,12}"),
        names in prop::collection::vec("[a-z0-9.-]{1,9}", 1..4),
        port in 1_u16..,
    ) {
        let list: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        let uri = format!(
            "postgresql://{}:{}@{}/{}?application_name={}",
            percent(&user), percent(&password), list.join(","), percent(&dbname), percent(&app)
        );
        let dsn = Dsn::parse_in(&uri, &Environment::default()).unwrap();
        prop_assert_eq!(hosts(&dsn), list);
        prop_assert_eq!((dsn.user(), dsn.dbname(), dsn.application_name()), (&*user, &*dbname, Some(&*app)));
        prop_assert_eq!(&dsn.password, &Some(Password(password.clone())));
        // The same pairs as keywords are the same connection.
        let pairs: HashMap<String, String> = [
            ("user", user), ("password", password), ("dbname", dbname), ("application_name", app),
            ("host", names.join(",")), ("port", vec![port.to_string(); names.len()].join(",")),
        ].into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        prop_assert_eq!(Dsn::parse_in(&keyword::format(&pairs), &Environment::default()).unwrap(), dsn);
    }
}
