//! The servers of `/metrics`: `--dsn`, else postgres_exporter's variables, else libpq's own environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pg_client::{Connector, Dsn, Environment, dsn};

/// What `pg_stat_activity` calls us.
pub(crate) const APPLICATION_NAME: &str = "pg-exporter";

/// Connection strings, where they come from, and the file of the password, if there is one.
#[derive(Debug, PartialEq, Eq)]
struct Given {
    texts: Vec<String>,
    origin: &'static str,
    password_file: Option<PathBuf>,
}

/// How to reach the servers; never empty.
///
/// # Errors
/// A connection string that cannot be used, or a file that a variable names and that cannot be read.
pub(super) fn connectors(flags: &[String], environment: &Environment) -> anyhow::Result<Vec<Connector>> {
    let given = if flags.is_empty() {
        from_variables(environment)?
    } else {
        Some(Given { texts: flags.to_vec(), origin: "--dsn", password_file: None })
    };
    let Some(Given { texts, origin, password_file }) = given else {
        let dsn = Dsn::from_env(environment).context("cannot use the PG* variables of the environment")?;
        return Ok(vec![Connector::new(dsn).with_application_name(APPLICATION_NAME)]);
    };
    let connector = |text: &String| {
        let dsn = Dsn::parse_in(text, environment)
            .with_context(|| format!("cannot use the connection string in {origin}"))?;
        let connector = Connector::new(dsn).with_application_name(APPLICATION_NAME);
        Ok(match password_file.clone() {
            // Read anew at each connect: a rotated password is seen.
            Some(file) => connector.with_password_source(Arc::new(move || read(&file).ok())),
            None => connector,
        })
    };
    texts.iter().map(connector).collect()
}

fn from_variables(environment: &Environment) -> anyhow::Result<Option<Given>> {
    if let Some(names) = environment.var("DATA_SOURCE_NAME") {
        return Ok(Some(Given { texts: split(names), origin: "DATA_SOURCE_NAME", password_file: None }));
    }
    let from_file = |name: &str| -> anyhow::Result<Option<String>> {
        if let Some(path) = environment.var(&format!("{name}_FILE")) {
            let text =
                read(Path::new(path)).with_context(|| format!("cannot read {path}, named by {name}_FILE"))?;
            return Ok(Some(text));
        }
        Ok(environment.var(name).map(str::to_owned))
    };
    let Some(uri) = from_file("DATA_SOURCE_URI")? else { return Ok(None) };
    let encode = |text: Option<String>| {
        text.map(|text| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()).unwrap_or_default()
    };
    let (user, password) = (encode(from_file("DATA_SOURCE_USER")?), encode(from_file("DATA_SOURCE_PASS")?));
    let login = match (user.as_str(), password.as_str()) {
        ("", "") => String::new(),
        (user, "") => format!("{user}@"),
        (user, password) => format!("{user}:{password}@"),
    };
    let text = format!("postgresql://{login}{uri}");
    let password_file = environment.var("DATA_SOURCE_PASS_FILE").map(PathBuf::from);
    Ok(Some(Given { texts: vec![text], origin: "DATA_SOURCE_URI", password_file }))
}

fn read(path: &Path) -> std::io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned())
}

/// Several connection strings with commas between them. A comma counts only where a connection string starts behind
/// it, so that lists of hosts and values with commas stay whole.
fn split(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in text.split(',') {
        match found.last_mut() {
            Some(last) if !starts_dsn(part) => {
                last.push(',');
                last.push_str(part);
            }
            _ => found.push(part.to_owned()),
        }
    }
    found.iter_mut().for_each(|text| *text = text.trim().to_owned());
    found.retain(|text| !text.is_empty());
    found
}

fn starts_dsn(text: &str) -> bool {
    let text = text.trim_start();
    ["postgresql://", "postgres://"].iter().any(|scheme| text.starts_with(scheme))
        || text.split_once('=').is_some_and(|(name, _)| dsn::is_keyword(name.trim_end()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables(pairs: &[(&'static str, &str)]) -> anyhow::Result<Option<Given>> {
        let pairs = pairs.iter().map(|(name, value)| (*name, (*value).to_owned()));
        from_variables(&Environment::new(pairs))
    }

    #[test]
    fn data_source_variables() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pass");
        fs::write(&file, "p:w@d\n").unwrap();
        let given = variables(&[
            ("DATA_SOURCE_URI", "db:5432/app?sslmode=disable"),
            ("DATA_SOURCE_USER", "me"),
            ("DATA_SOURCE_PASS_FILE", file.to_str().unwrap()),
        ]);
        let given = given.unwrap().unwrap();
        assert_eq!(given.texts, ["postgresql://me:p%3Aw%40d@db:5432/app?sslmode=disable"]);
        assert_eq!(given.password_file, Some(file));
        let given = variables(&[("DATA_SOURCE_NAME", "host=a"), ("DATA_SOURCE_URI", "b")]).unwrap().unwrap();
        assert_eq!(given.texts, ["host=a"]);
        assert_eq!(variables(&[]).unwrap(), None);
        let missing = variables(&[("DATA_SOURCE_URI_FILE", "/nonexistent/uri")]).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/uri"));
    }

    #[test]
    fn several_servers() {
        for (text, expected) in [
            ("host=a", &["host=a"] as &[_]),
            ("postgresql://u:p@a/x,postgres://b/y", &["postgresql://u:p@a/x", "postgres://b/y"]),
            ("host=a port=1, host=b", &["host=a port=1", "host=b"]),
            ("postgresql://u@a:1,b:2/x?sslmode=disable", &["postgresql://u@a:1,b:2/x?sslmode=disable"]),
            ("host=a,b port=1,2 user=u,host=c", &["host=a,b port=1,2 user=u", "host=c"]),
            ("host=a options='-c search_path=x,y=z'", &["host=a options='-c search_path=x,y=z'"]),
            ("postgresql://u:p,w@a/x,", &["postgresql://u:p,w@a/x,"]),
            ("", &[]),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn splitting_loses_nothing(hosts in prop::collection::vec("[a-z]{1,8}(:[1-9][0-9]{0,3})?", 1..5)) {
            let dsns: Vec<String> = hosts.iter().map(|host| format!("postgresql://u:p@{host},z/d")).collect();
            prop_assert_eq!(split(&dsns.join(",")), dsns);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            split(&text);
        }
    }
}
