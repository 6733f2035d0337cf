//! Lua 5.1's patterns, which `-check-key-groups` is written in: `^user:(%d+)`. Matched here, so that a walk of the
//! database serves them too and no script blocks the server.

/// Captures of one pattern at most, as in Lua.
const MOST_CAPTURES: usize = 32;

/// A pattern that is well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<u8>);

/// Why a pattern is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a Lua pattern: {cause}")]
pub struct PatternError {
    pattern: String,
    cause: &'static str,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What Lua would refuse when it matches.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let pattern = Self(text.as_bytes().to_vec());
        pattern.check().map_err(|cause| PatternError { pattern: text.to_owned(), cause })?;
        Ok(pattern)
    }

    /// Reads a list: separated by commas, `"…"` around one that holds a comma, `""` for a quote in it.
    ///
    /// # Errors
    /// The first pattern that is not well formed.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, PatternError> {
        let (mut fields, mut quoted) = (vec![String::new()], false);
        let mut signs = text.chars().peekable();
        while let Some(sign) = signs.next() {
            let field = fields.last_mut().map(|field| (field.trim().is_empty(), field));
            let Some((fresh, field)) = field else { break };
            match sign {
                '"' if quoted && signs.peek() == Some(&'"') => field.extend(signs.next()),
                '"' if quoted || fresh => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                other => field.push(other),
            }
        }
        fields.iter().map(|field| field.trim()).filter(|field| !field.is_empty()).map(Self::new).collect()
    }

    fn check(&self) -> Result<(), &'static str> {
        let pattern = &self.0;
        // The captures that are open, and whether each was closed.
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        let mut at = usize::from(pattern.first() == Some(&b'^'));
        while let Some(sign) = pattern.get(at) {
            match (sign, pattern.get(at + 1)) {
                (b'(', next) => {
                    let position = next == Some(&b')');
                    if !position {
                        open.push(closed.len());
                    }
                    closed.push(position);
                    if closed.len() > MOST_CAPTURES {
                        return Err("it has too many captures");
                    }
                    at += if position { 2 } else { 1 };
                }
                (b')', _) => {
                    let begun = open.pop().ok_or("a ) has no (")?;
                    closed[begun] = true;
                    at += 1;
                }
                (b'%', Some(b'b')) => {
                    if at + 3 >= pattern.len() {
                        return Err("%b needs two signs");
                    }
                    at += 4;
                }
                (b'%', Some(b'f')) => {
                    if pattern.get(at + 2) != Some(&b'[') {
                        return Err("%f needs a set");
                    }
                    at = self.item_end(at + 2).ok_or("a [ has no ]")?;
                }
                (b'%', Some(digit @ b'0'..=b'9')) => {
                    let earlier = usize::from(*digit).checked_sub(usize::from(b'1'));
                    if earlier.and_then(|index| closed.get(index)) != Some(&true) {
                        return Err("it refers to a capture that is not closed before");
                    }
                    at += 2;
                }
                _ => at = self.item_end(at).ok_or("it ends with %, or a [ has no ]")?,
            }
        }
        if open.is_empty() { Ok(()) } else { Err("a ( has no )") }
    }

    /// Where the single item that starts at `at` ends.
    fn item_end(&self, at: usize) -> Option<usize> {
        let pattern = &self.0;
        match pattern.get(at)? {
            b'%' => (at + 1 < pattern.len()).then_some(at + 2),
            b'[' => {
                let mut end = at + 1 + usize::from(pattern.get(at + 1) == Some(&b'^'));
                // A ] that comes first stands for itself.
                loop {
                    let escape = *pattern.get(end)? == b'%';
                    end += if escape && end + 1 < pattern.len() { 2 } else { 1 };
                    if *pattern.get(end)? == b']' {
                        return Some(end + 1);
                    }
                }
            }
            _ => Some(at + 1),
        }
    }

    /// The captures of the first match, one after another; `None` when nothing in `text` matches.
    pub fn captures(&self, text: &[u8]) -> Option<Vec<u8>> {
        let anchored = self.0.first() == Some(&b'^');
        let starts = if anchored { 0..=0 } else { 0..=text.len() };
        for start in starts {
            let mut matcher = Matcher { pattern: self, text, captures: Vec::new() };
            if matcher.run(start, usize::from(anchored)).is_some() {
                return Some(matcher.captures.iter().flat_map(|capture| capture.text(text)).collect());
            }
        }
        None
    }
}

#[derive(Clone, Copy)]
enum Capture {
    Open(usize),
    Position(usize),
    Closed(usize, usize),
}

impl Capture {
    fn text(self, text: &[u8]) -> Vec<u8> {
        match self {
            Capture::Closed(from, to) => text[from..to].to_vec(),
            // Lua counts from 1.
            Capture::Position(at) => (at + 1).to_string().into_bytes(),
            Capture::Open(_) => Vec::new(),
        }
    }
}

struct Matcher<'a> {
    pattern: &'a Pattern,
    text: &'a [u8],
    captures: Vec<Capture>,
}

impl Matcher<'_> {
    /// Matches the pattern from `item` on with the text from `at` on; gives where that ends. Each recursion is one item
    /// further in the pattern.
    fn run(&mut self, mut at: usize, mut item: usize) -> Option<usize> {
        loop {
            let pattern = &self.pattern.0;
            let Some(sign) = pattern.get(item) else { return Some(at) };
            match (sign, pattern.get(item + 1)) {
                (b'(', next) => {
                    let position = next == Some(&b')');
                    let begun = if position { Capture::Position(at) } else { Capture::Open(at) };
                    self.captures.push(begun);
                    let found = self.run(at, item + if position { 2 } else { 1 });
                    if found.is_none() {
                        self.captures.pop();
                    }
                    return found;
                }
                (b')', _) => {
                    let index = self.captures.iter().rposition(|one| matches!(one, Capture::Open(_)))?;
                    let before = self.captures[index];
                    if let Capture::Open(from) = before {
                        self.captures[index] = Capture::Closed(from, at);
                    }
                    let found = self.run(at, item + 1);
                    if found.is_none() {
                        self.captures[index] = before;
                    }
                    return found;
                }
                (b'$', None) => return (at == self.text.len()).then_some(at),
                (b'%', Some(b'b')) => {
                    at = self.balanced(at, pattern[item + 2], pattern[item + 3])?;
                    item += 4;
                }
                (b'%', Some(b'f')) => {
                    let end = self.pattern.item_end(item + 2)?;
                    let before = if at == 0 { 0 } else { self.text[at - 1] };
                    let here = self.text.get(at).copied().unwrap_or(0);
                    let set = &pattern[item + 2..end];
                    if in_set(set, before) || !in_set(set, here) {
                        return None;
                    }
                    item = end;
                }
                (b'%', Some(digit @ b'0'..=b'9')) => {
                    let Capture::Closed(from, to) = self.captures[usize::from(digit - b'1')] else {
                        return None;
                    };
                    let rest = &self.text[at..];
                    if !rest.starts_with(&self.text[from..to]) {
                        return None;
                    }
                    at += to - from;
                    item += 2;
                }
                _ => {
                    let end = self.pattern.item_end(item)?;
                    match pattern.get(end) {
                        Some(b'?') => {
                            if self.single(at, item, end)
                                && let Some(found) = self.run(at + 1, end + 1)
                            {
                                return Some(found);
                            }
                            item = end + 1;
                        }
                        Some(b'*') => return self.greedy(at, item, end, 0),
                        Some(b'+') => return self.greedy(at, item, end, 1),
                        Some(b'-') => return self.lazy(at, item, end),
                        _ => {
                            if !self.single(at, item, end) {
                                return None;
                            }
                            at += 1;
                            item = end;
                        }
                    }
                }
            }
        }
    }

    /// Whether the item between `item` and `end` matches the one byte at `at`.
    fn single(&self, at: usize, item: usize, end: usize) -> bool {
        let Some(&byte) = self.text.get(at) else { return false };
        match &self.pattern.0[item..end] {
            [b'.'] => true,
            [b'%', class] => in_class(*class, byte),
            set @ [b'[', ..] => in_set(set, byte),
            [literal, ..] => *literal == byte,
            [] => false,
        }
    }

    fn greedy(&mut self, at: usize, item: usize, end: usize, least: usize) -> Option<usize> {
        let most = (at..).take_while(|place| self.single(*place, item, end)).count();
        (least..=most).rev().find_map(|count| self.run(at + count, end + 1))
    }

    fn lazy(&mut self, at: usize, item: usize, end: usize) -> Option<usize> {
        let mut at = at;
        loop {
            if let Some(found) = self.run(at, end + 1) {
                return Some(found);
            }
            if !self.single(at, item, end) {
                return None;
            }
            at += 1;
        }
    }

    /// Where the `close` is that belongs to the `open` at `at`.
    fn balanced(&self, at: usize, open: u8, close: u8) -> Option<usize> {
        let (first, rest) = self.text.get(at..)?.split_first()?;
        if *first != open {
            return None;
        }
        let mut depth = 1;
        for (offset, &byte) in rest.iter().enumerate() {
            if byte == close {
                depth -= 1;
                if depth == 0 {
                    return Some(at + offset + 2);
                }
            } else if byte == open {
                depth += 1;
            }
        }
        None
    }
}

/// `%a` and others; a capital is the opposite, any other sign stands for itself.
fn in_class(class: u8, byte: u8) -> bool {
    let inside = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        // Rust's own leaves the vertical tab out.
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    inside != class.is_ascii_uppercase()
}

/// Whether a byte is in `[…]` or not in `[^…]`; the brackets are part of `set`.
fn in_set(set: &[u8], byte: u8) -> bool {
    let inner = &set[1..set.len() - 1];
    let (negated, mut rest) = match inner {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, inner),
    };
    while let [first, after @ ..] = rest {
        let (found, next) = match (first, after) {
            (b'%', [class, next @ ..]) => (in_class(*class, byte), next),
            (low, [b'-', high, next @ ..]) => ((*low..=*high).contains(&byte), next),
            (literal, next) => (*literal == byte, next),
        };
        if found {
            return !negated;
        }
        rest = next;
    }
    negated
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn group(pattern: &str, key: &str) -> Option<String> {
        Pattern::new(pattern).unwrap().captures(key.as_bytes()).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn captures_are_joined() {
        for (pattern, key, expected) in [
            ("^(user):%d+:(.*)$", "user:12:cart", Some("usercart")),
            ("^(.*):[^:]+$", "a:b:c", Some("a:b")),
            ("^(.-):", "a:b:c", Some("a")),
            ("job", "a:job", Some("")),
            ("()b", "ab", Some("2")),
            ("(%a)%1", "abba", Some("b")),
            ("%b()", "(a(b)", Some("")),
            ("^user", "a user", None),
        ] {
            assert_eq!(group(pattern, key).as_deref(), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn a_list_may_quote() {
        let list = Pattern::parse_list(r#"^(a), "b{1,2}" ,,"c""d""#).unwrap();
        assert_eq!(list, ["^(a)", "b{1,2}", "c\"d"].map(|text| Pattern::new(text).unwrap()));
    }

    #[test]
    fn what_is_not_a_pattern_is_refused() {
        for wrong in ["(", ")", "[", "[^", "[]", "%", "%b(", "%fa", "%1", "(%1)", "a(b", &"()".repeat(33)] {
            let error = Pattern::new(wrong).unwrap_err().to_string();
            assert!(error.contains("is not a Lua pattern"), "{wrong}: {error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(pattern in "[ab().%*+?\\-\\[\\]^$1fdb]{0,14}", text in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(pattern) = Pattern::new(&pattern) {
                let _ = pattern.captures(&text);
            }
        }
    }
}
