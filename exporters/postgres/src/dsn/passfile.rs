//! The password file (`~/.pgpass`): lines `host:port:database:user:password`, `*` matches anything, `\` escapes
//! `:` and `\`. The first matching line wins. A file that others may read is ignored, as libpq does.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The password that a password file's text holds for a login.
pub fn lookup(text: &str, host: &str, port: u16, dbname: &str, user: &str) -> Option<String> {
    let port = port.to_string();
    let wanted = [host, port.as_str(), dbname, user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for want in wanted {
            let (field, after) = field(rest)?;
            if field.raw != "*" && field.text != want {
                return None;
            }
            rest = after?;
        }
        // The password runs to the end of the line or to an unescaped colon.
        Some(field(rest)?.0.text).filter(|password| !password.is_empty())
    })
}

struct Field<'a> {
    raw: &'a str,
    text: String,
}

/// One field and what follows its colon, if there is one.
fn field(line: &str) -> Option<(Field<'_>, Option<&str>)> {
    let mut text = String::new();
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ':' => return Some((Field { raw: line.get(..at)?, text }, line.get(at + 1..))),
            '\\' => text.push(chars.next().map_or('\\', |(_, c)| c)),
            c => text.push(c),
        }
    }
    Some((Field { raw: line, text }, None))
}

/// Reads the file at connect time. A missing file is no password; an unsafe one is ignored with a warning.
pub(crate) fn read(path: &Path, host: &str, port: u16, dbname: &str, user: &str) -> Option<String> {
    let meta = std::fs::metadata(path).ok()?;
    if !meta.is_file() {
        tracing::warn!(file = %path.display(), "password file ignored: not a plain file");
        return None;
    }
    if meta.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "password file ignored: others may read it; chmod 0600 it");
        return None;
    }
    match std::fs::read_to_string(path) {
        Ok(text) => lookup(&text, host, port, dbname, user),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "password file ignored: cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_match_wins_with_wildcards_and_escapes() {
        let text =
            "# comment\ndb:5432:shop:bob:one\n*:*:*:bob:t\\:w\\\\o:ignored\n\\::1:*:eve:x\nshort:1\n::\n";
        assert_eq!(lookup(text, "db", 5432, "shop", "bob").as_deref(), Some("one"));
        assert_eq!(lookup(text, "db", 5433, "shop", "bob").as_deref(), Some("t:w\\o"));
        assert_eq!(lookup(text, ":", 1, "any", "eve").as_deref(), Some("x"));
        assert_eq!(lookup(text, "db", 5432, "shop", "eve"), None);
        assert_eq!(lookup("\\*:*:*:u:p", "h", 1, "d", "u"), None);
        assert_eq!(lookup("h:1:d:u:", "h", 1, "d", "u"), None);
    }

    #[test]
    fn others_must_not_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pgpass");
        std::fs::write(&file, "*:*:*:*:pw\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read(&file, "h", 1, "d", "u"), None);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&file, "h", 1, "d", "u").as_deref(), Some("pw"));
        assert_eq!(read(dir.path(), "h", 1, "d", "u"), None);
        assert_eq!(read(&dir.path().join("none"), "h", 1, "d", "u"), None);
    }

    fn escape(text: &str) -> String {
        text.replace('\\', "\\\\").replace(':', "\\:")
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = lookup(&text, "h", 1, "d", "u");
        }

        #[test]
        fn escaped_fields_are_found(fields in prop::array::uniform4("[^\r\n#]{1,8}"), port: u16) {
            let [host, db, user, password] = &fields;
            let line = format!("{}:{port}:{}:{}:{}", escape(host), escape(db), escape(user), escape(password));
            prop_assert_eq!(lookup(&line, host, port, db, user), Some(password.clone()));
        }
    }
}
