//! The passwords that a program under test was given, to be looked for in whatever it says.

use std::ffi::OsStr;

/// Shorter ones occur by chance.
const SHORTEST: usize = 8;

/// The passwords in arguments and environment: of URLs, of `password=`, and of variables that are called so.
pub(crate) fn given<'a>(
    arguments: impl IntoIterator<Item = &'a OsStr>,
    environment: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
) -> Vec<String> {
    let mut found = Vec::new();
    for argument in arguments {
        inside(&argument.to_string_lossy(), &mut found);
    }
    for (name, value) in environment {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        // The name of a file is no secret.
        if name.contains("PASS") && !name.ends_with("FILE") {
            found.push(value.clone().into_owned());
        }
        inside(&value, &mut found);
    }
    found.retain(|secret| secret.len() >= SHORTEST);
    found.sort();
    found.dedup();
    found
}

/// Adds the passwords of a connection string, or of several.
fn inside(text: &str, found: &mut Vec<String>) {
    for part in text.split("://").skip(1) {
        let authority = part.split(['/', '?', ' ']).next().unwrap_or_default();
        let password = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
        found.extend(password.map(|(_, password)| password.to_owned()));
    }
    for part in text.split("password=").skip(1) {
        found.extend(part.split([' ', '&']).next().map(|value| value.trim_matches('\'').to_owned()));
    }
}

/// The first line of `text` that holds one of the secrets.
pub(crate) fn find<'a>(secrets: &[String], text: &'a str) -> Option<&'a str> {
    text.lines().find(|line| secrets.iter().any(|secret| line.contains(secret.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_wherever_they_are_given() {
        for (argument, expected) in [
            ("postgresql://me:long-enough@h:1/d?sslmode=disable", &["long-enough"] as &[_]),
            ("--url=redis://:long-enough@h", &["long-enough"]),
            ("redis://a:long-enough@h,redis://b:another-one@h", &["another-one", "long-enough"]),
            ("host=h password=long-enough port=1", &["long-enough"]),
            ("postgresql://h/d?password=long-enough&user=me", &["long-enough"]),
            ("postgresql://me:short@h", &[]),
            ("http://h:8080/long-enough", &[]),
        ] {
            assert_eq!(given([OsStr::new(argument)], []), expected, "{argument}");
        }
        let variables = [
            ("PGPASSWORD", "long-enough"),
            ("PGPASSFILE", "/home/me/.pgpass"),
            ("DATA_SOURCE_NAME", "postgresql://me:another-one@h/d"),
        ];
        let variables = variables.map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
        assert_eq!(given([], variables), ["another-one", "long-enough"]);
    }

    #[test]
    fn the_line_is_shown() {
        let secrets = ["long-enough".to_owned()];
        assert_eq!(find(&secrets, "one\nis long-enough\n"), Some("is long-enough"));
        assert_eq!(find(&secrets, "one\ntwo\n"), None);
    }
}
