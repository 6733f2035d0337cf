//! The `key=value` form: `host=db user='my user' password=it\'s`. Spaces around `=` are allowed, values with spaces
//! are quoted, a backslash takes the next character literally; the last of two equal keywords wins.

use super::{DsnError, Params};
use std::collections::BTreeMap;

/// Splits a `key=value` string.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, DsnError> {
    let mut params = Params::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(char::is_ascii_whitespace).is_some() {}
        if chars.peek().is_none() {
            return Ok(params);
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_ascii_whitespace()) {
            name.push(c);
        }
        while chars.next_if(char::is_ascii_whitespace).is_some() {}
        // What stands here may be the tail of a badly quoted password: it is not repeated in the message.
        if chars.next_if_eq(&'=').is_none() || name.is_empty() {
            return Err(DsnError::new(format!(
                "connection string: missing \"=\" after keyword {}; quote values that hold spaces: key='a value'",
                params.len() + 1
            )));
        }
        while chars.next_if(char::is_ascii_whitespace).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next_if(|c| quoted || !c.is_ascii_whitespace()) {
                Some('\'') if quoted => break,
                Some('\\') => value.extend(chars.next()),
                Some(c) => value.push(c),
                None if quoted => {
                    return Err(DsnError::new(format!(
                        "connection string: the quoted value of {name:?} does not end"
                    )));
                }
                None => break,
            }
        }
        params.insert(name, value);
    }
}

/// Writes a `key=value` string that [`parse`] reads back to the same pairs.
pub fn format<'a>(params: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let mut out = String::new();
    for (name, value) in params {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(name);
        out.push('=');
        let quoted = value.is_empty() || value.contains(|c: char| c.is_ascii_whitespace() || c == '\'');
        out.extend(quoted.then_some('\''));
        for c in value.chars() {
            if c == '\'' || c == '\\' {
                out.push('\\');
            }
            out.push(c);
        }
        out.extend(quoted.then_some('\''));
    }
    out
}
