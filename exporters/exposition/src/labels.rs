//! Label blocks: the text between the braces of a series, rendered once a row and copied for every family.

use std::borrow::Cow;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::shape::LabelName;

/// Appends `name="value"`. Returns whether something in the value was escaped.
pub(crate) fn push(out: &mut String, name: &LabelName, value: &str) -> bool {
    out.push_str(name.before_value());
    let start = out.len();
    push_escaped(out, value);
    let escaped = out.len() - start > value.len();
    out.push('"');
    escaped
}

/// Values up to so many bytes are looked through faster than a search is set up.
const SHORT: usize = 32;

/// Appends `value` with backslash, quote and newline escaped.
fn push_escaped(out: &mut String, value: &str) {
    if value.len() <= SHORT && !value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        out.push_str(value);
        return;
    }
    push_with_escapes(out, value, memchr::memchr3_iter(b'\\', b'"', b'\n', value.as_bytes()));
}

/// Appends a HELP text: 0.0.4 leaves quotes alone, OpenMetrics escapes them.
pub(crate) fn push_help(out: &mut String, help: &str, escape_quotes: bool) {
    match escape_quotes {
        true => push_escaped(out, help),
        false => push_with_escapes(out, help, memchr::memchr2_iter(b'\\', b'\n', help.as_bytes())),
    }
}

/// Appends a text with a backslash before the characters at these positions.
fn push_with_escapes(out: &mut String, text: &str, at: impl Iterator<Item = usize>) {
    let mut copied = 0;
    for at in at {
        out.push_str(&text[copied..at]);
        out.push('\\');
        copied = at;
        if text.as_bytes()[at] == b'\n' {
            out.push('n');
            copied += 1;
        }
    }
    out.push_str(&text[copied..]);
}

/// Undoes the escaping of a label value or a help text.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        plain.push(match characters.next() {
            Some('n') => '\n',
            Some(escaped) => escaped,
            None => '\\',
        });
    }
    Cow::Owned(plain)
}

/// The pairs of a rendered block, values still escaped.
pub(crate) fn pairs(block: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let (name, value) = rest.split_once("=\"")?;
        let end = closing_quote(value)?;
        rest = value[end + 1..].trim_start_matches(',');
        Some((name, &value[..end]))
    })
}

/// Where the quoted text that starts `text` ends.
pub(crate) fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// A hash of the block that does not depend on the order of its labels; an empty value counts as absent.
pub(crate) fn hash_unordered(hasher: &RandomState, blocks: [&str; 2]) -> u64 {
    let pairs = blocks.into_iter().flat_map(pairs).filter(|(_, value)| !value.is_empty());
    pairs.fold(0, |sum: u64, pair| sum.wrapping_add(hasher.hash_one(pair)))
}
