//! That a query is one statement: what comes after a semicolon would run too, and outside of the limits.
//!
//! The queries run in the simple protocol, which takes several statements, and inside parentheses. So a semicolon that
//! is not the last sign is refused, and so is a parenthesis that closes what it did not open. That holds only while
//! this file and the server agree on where strings and comments end. Where the server's reading depends on a setting
//! (`standard_conforming_strings`), on what stands far before (a string that continues an E string) or on its version
//! (a number with letters), the text is refused instead of interpreted. Rules: `scan.l` of PostgreSQL.

/// The statement without a trailing semicolon.
///
/// # Errors
/// What is wrong, in words.
pub fn single(sql: &str) -> Result<&str, &'static str> {
    let bytes = sql.as_bytes();
    let mut depth = 0_u32;
    // Where the statement starts and, once there is a semicolon, where it ends.
    let (mut start, mut end) = (None, None);
    let mut at = 0;
    while at < bytes.len() {
        let rest = &sql[at..];
        let skipped = blank(rest)?;
        if skipped > 0 {
            at += skipped;
            continue;
        }
        if end.is_some() {
            return Err("more than one statement; write a query for each");
        }
        match bytes[at] {
            0 => return Err("a zero byte"),
            b';' => end = Some(at),
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1).ok_or("a parenthesis is closed that was not opened")?,
            _ => {}
        }
        if end.is_none() {
            start.get_or_insert(at);
        }
        at += token(rest)?;
    }
    match (depth, start) {
        (0, Some(start)) => Ok(sql[start..end.unwrap_or(sql.len())].trim_end_matches(is_space)),
        (0, None) => Err("there is no statement"),
        _ => Err("a parenthesis is not closed"),
    }
}

/// White space is ASCII's; every other space is a letter to the server.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Length of the white space or the comment that `text` starts with.
fn blank(text: &str) -> Result<usize, &'static str> {
    if text.starts_with("--") {
        // A carriage return ends a line, too.
        return Ok(text.find(['\n', '\r']).unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return comment(text);
    }
    Ok(text.len() - text.trim_start_matches(is_space).len())
}

/// Length of a comment in `/* */`, which nest.
fn comment(text: &str) -> Result<usize, &'static str> {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(next) = text[at..].find(['/', '*']) {
        at += next;
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Ok(at);
            }
        } else {
            at += 1;
        }
    }
    Err("a comment is not closed")
}

/// Length of the quoted text, word, number or sign that `text` starts with.
fn token(text: &str) -> Result<usize, &'static str> {
    let length = |part: fn(char) -> bool| text.find(|character| !part(character)).unwrap_or(text.len());
    match text.as_bytes()[0] {
        b'\'' => string(text),
        b'"' => quoted(text, '"'),
        b'$' => dollar_quoted(text),
        b'0'..=b'9' => {
            let length = length(|one| in_word(one) && one != '$');
            match text[length..].starts_with(['\'', '$']) {
                true => Err("write a space after a number"),
                false => Ok(length),
            }
        }
        byte if starts_word(char::from(byte)) => Ok(length(in_word)),
        _ => Ok(1),
    }
}

/// Bytes beyond ASCII are letters to the server, whatever they stand for.
fn starts_word(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_' || !character.is_ascii()
}

fn in_word(character: char) -> bool {
    starts_word(character) || character.is_ascii_digit() || character == '$'
}

/// A string. Whether a backslash escapes depends on its prefix, on the string before and on a setting; without one in
/// front of a quote it does not matter.
fn string(text: &str) -> Result<usize, &'static str> {
    let length = quoted(text, '\'')?;
    match text[..length].contains("\\'") {
        true => Err("a backslash before a quote; double the quote, or use a dollar quote"),
        false => Ok(length),
    }
}

/// A quote inside is doubled.
fn quoted(text: &str, quote: char) -> Result<usize, &'static str> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return Ok(at + 1);
        }
    }
    Err("a quote is not closed")
}

/// `$tag$ … $tag$`; a `$` that starts none is a sign like others.
fn dollar_quoted(text: &str) -> Result<usize, &'static str> {
    let Some(tag) = text[1..].find('$').map(|end| &text[..end + 2]) else { return Ok(1) };
    let name = &tag[1..tag.len() - 1];
    if !(name.is_empty() || name.starts_with(starts_word)) || !name.chars().all(in_word) {
        return Ok(1);
    }
    match text[tag.len()..].find(tag) {
        Some(end) => Ok(end + 2 * tag.len()),
        None => Err("a dollar quote is not closed"),
    }
}

#[cfg(test)]
mod tests {
    use super::single;
    use proptest::prelude::*;

    #[test]
    fn one_statement_passes() {
        for sql in [
            "SELECT 1",
            "SELECT ';' AS a, \"b;\" FROM \"t;\"",
            "SELECT $$;$$, $tag$ ; $$ ; $tag$",
            "SELECT E'\\n;', '\\d+;' -- ; the end",
            "SELECT 1e5, 0x1F, $1, a.b, 1.5::float8",
            "SELECT U&\"d!0061t\" UESCAPE '!' FROM \u{a0}x",
            "SELECT 'it''s; fine' /* ; /* nested ; */ ; */",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "SELECT a$b$c FROM t",
        ] {
            assert_eq!(single(sql), Ok(sql), "{sql}");
        }
        assert_eq!(single(" SELECT 1 ; -- done\n"), Ok("SELECT 1"));
    }

    #[test]
    fn everything_else_does_not() {
        for (sql, expected) in [
            ("SELECT 1; DELETE FROM deals", "more than one"),
            ("SELECT 1;;", "more than one"),
            ("SELECT 1) q; COMMIT; DELETE FROM deals; SELECT * FROM (SELECT 1", "was not opened"),
            ("SELECT (1", "not closed"),
            ("SELECT 'a", "quote"),
            ("SELECT $x$ a", "dollar"),
            ("/* SELECT 1", "comment"),
            (" -- nothing\n", "no statement"),
            (";", "no statement"),
            ("SELECT 'a\\'; DELETE FROM deals; --'", "backslash"),
            ("SELECT name'\\') q; COMMIT; DELETE FROM deals; SELECT * FROM (SELECT 1 --'", "backslash"),
            ("SELECT E'a'\n'\\', ') q; COMMIT; SELECT * FROM (SELECT 1 --'", "backslash"),
            ("SELECT 1 --\r) q; COMMIT; SELECT * FROM (SELECT 1", "was not opened"),
            ("SELECT $\u{20ac}$ ' $\u{20ac}$) q; COMMIT; SELECT * FROM (SELECT 1 --'", "was not opened"),
            ("SELECT 1$$ ' $$) q; COMMIT; SELECT * FROM (SELECT 1 --'", "after a number"),
            ("SELECT 1e'a'", "after a number"),
            ("SELECT 1\0", "zero byte"),
        ] {
            assert!(single(sql).is_err_and(|error| error.contains(expected)), "{sql}: {:?}", single(sql));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(sql in "[-'\"$;()eE\\\\/* a\u{e4}\n]{0,40}") {
            if let Ok(statement) = single(&sql) {
                prop_assert!(!statement.is_empty() && sql.contains(statement));
            }
        }
    }
}
