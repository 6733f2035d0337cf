//! Sans-IO reader of CLIENT LIST: one client a line, `key=value` pieces with a space between them.

use std::borrow::Cow;

use redis::Value;

use crate::error::ReplyError;
use crate::request::{Request, borrowed};

/// The text of CLIENT LIST, which has at least us.
pub(crate) fn list(reply: &Value) -> Result<Cow<'_, str>, ReplyError> {
    let has_client =
        |list: &Cow<'_, str>| list.lines().any(|line| Reader::new(["id"]).read(line)[0].is_some());
    borrowed(reply).filter(has_client).ok_or_else(|| ReplyError::unexpected(Request::ClientList.name()))
}

/// Picks some fields out of lines. All lines of a list have the same keys in the same order, so that a key is looked up
/// on the first one, and seen to be the same on the others.
pub(crate) struct Reader<'a, const N: usize> {
    wanted: [&'static str; N],
    /// What stands at each place: the key, and where its value goes if it is wanted.
    last: Vec<(&'a str, Option<usize>)>,
}

impl<'a, const N: usize> Reader<'a, N> {
    pub(crate) fn new(wanted: [&'static str; N]) -> Self {
        Self { wanted, last: Vec::new() }
    }

    /// The values of the wanted fields. A value may hold `=`, but no space: the server does not let a name have one.
    pub(crate) fn read(&mut self, line: &'a str) -> [Option<&'a str>; N] {
        let mut values = [None; N];
        let mut rest = line;
        for place in 0.. {
            let is_next = |key: &str| rest.as_bytes().get(key.len()) == Some(&b'=') && rest.starts_with(key);
            let (at, from) = match self.last.get(place) {
                Some((key, at)) if is_next(key) => (*at, key.len() + 1),
                _ => self.learn(place, rest),
            };
            // Values are short: looking at each byte is quicker than a search that is made for long texts.
            let end =
                rest.as_bytes()[from..].iter().position(|byte| *byte == b' ').map(|length| from + length);
            if let Some(at) = at {
                values[at].get_or_insert(&rest[from..end.unwrap_or(rest.len())]);
            }
            match end {
                Some(end) => rest = &rest[end + 1..],
                None => break,
            }
        }
        values
    }

    /// Looks up the key that the rest of a line begins with and keeps what stands at its place: where its value goes, and
    /// where that begins.
    fn learn(&mut self, place: usize, rest: &'a str) -> (Option<usize>, usize) {
        let piece = rest.split(' ').next().unwrap_or_default();
        let Some((key, _)) = piece.split_once('=') else { return (None, 0) };
        let at = self.wanted.iter().position(|wanted| *wanted == key);
        self.last.resize(self.last.len().max(place + 1), ("", None));
        self.last[place] = (key, at);
        (at, key.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_may_have_other_keys_than_the_one_before() {
        let mut reader = Reader::new(["id", "name", "db"]);
        assert_eq!(reader.read("id=7 name=svc=a fd=8 db=0"), [Some("7"), Some("svc=a"), Some("0")]);
        assert_eq!(reader.read("id=8 name= fd=9 db=1"), [Some("8"), Some(""), Some("1")]);
        assert_eq!(reader.read("odd id=9 db=2 db=3 names=x"), [Some("9"), None, Some("2")]);
        assert_eq!(reader.read("id=10 name=b fd=8 db=4"), [Some("10"), Some("b"), Some("4")]);
        assert_eq!(reader.read(""), [None; 3]);
    }

    proptest! {
        #[test]
        fn a_line_reads_the_same_whatever_came_before(
            lines in proptest::collection::vec("((id|idle|name|=)?=?[ a-z0-9=]{0,6}){0,5}", 0..6),
        ) {
            let mut reader = Reader::new(["id", "idle", "name"]);
            for line in &lines {
                let field = |name| line.split(' ').filter_map(|piece| piece.split_once('=')).find(|(key, _)| *key == name);
                let expected = ["id", "idle", "name"].map(|name| field(name).map(|(_, value)| value));
                prop_assert_eq!(reader.read(line), expected);
            }
        }
    }
}
