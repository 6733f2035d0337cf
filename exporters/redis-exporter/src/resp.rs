//! Sans-IO decoder of RESP2 and RESP3, the protocol that servers answer in. It goes on where it stopped when more bytes
//! come, and has no recursion.

use std::borrow::Cow;

use memchr::memchr;
use redis::{Value, VerbatimFormat};

/// How deep replies may be nested: what drops a value is recursive.
const MAX_DEPTH: usize = 100;

/// How long a line may be. Texts of any length are sent with their size ahead.
const MAX_LINE: usize = 64 * 1024;

/// What Redis sends at most in one text (`proto-max-bulk-len`).
const MAX_TEXT: usize = 512 * 1024 * 1024;

/// What came is no reply: the connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the server sends is no RESP: {0}")]
pub(crate) struct Malformed(&'static str);

/// Replies out of a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Those whose last item has not come yet, the outermost first.
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    kind: Kind,
    count: usize,
    items: Vec<Value>,
}

/// What consists of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Set,
    Map,
    /// What is said beside a reply: nobody here asks for any of it.
    Aside,
}

/// What begins at some byte.
enum Part<'a> {
    Nil,
    Whole(i64),
    Double(f64),
    Boolean(bool),
    BigNumber(&'a [u8]),
    Line(&'a [u8]),
    Text(&'a [u8]),
    /// A text with three characters of its format and a colon ahead.
    Verbatim(&'a [u8]),
    Error(&'a [u8]),
    Open(Kind, usize),
}

/// A reply: its value, or the error that the server answers.
pub(crate) type Reply = Result<Value, String>;

impl Decoder {
    /// The next reply of `input`; `None` when its end has not come yet. `used` is how many bytes of `input` are done with,
    /// and moves on.
    pub(crate) fn next(&mut self, input: &[u8], used: &mut usize) -> Result<Option<Reply>, Malformed> {
        while let Some((part, length)) = part(&input[*used..])? {
            *used += length;
            let value = match part {
                Part::Error(error) if self.open.is_empty() => return Ok(Some(Err(text(error).into_owned()))),
                Part::Open(kind, 0) => match kind.close(Vec::new()) {
                    Some(value) => value,
                    None => continue,
                },
                Part::Open(..) if self.open.len() == MAX_DEPTH => return Err(Malformed("nested too deep")),
                Part::Open(kind, count) => {
                    // Each item takes four bytes at least but for nulls: a count alone reserves nothing.
                    let room = count.min((input.len() - *used) / 4 + 1);
                    self.open.push(Open { kind, count, items: Vec::with_capacity(room) });
                    continue;
                }
                part => part.value(),
            };
            if let Some(reply) = self.put(value) {
                return Ok(Some(Ok(reply)));
            }
        }
        Ok(None)
    }

    /// Puts an item where it belongs, and so on with whatever it was the last item of. A reply that is complete belongs
    /// nowhere.
    fn put(&mut self, mut item: Value) -> Option<Value> {
        loop {
            let Some(open) = self.open.last_mut() else { return Some(item) };
            open.items.push(item);
            if open.items.len() < open.count {
                return None;
            }
            item = self.open.pop().and_then(|open| open.kind.close(open.items))?;
        }
    }
}

impl Kind {
    /// The value of these items, if it has one.
    fn close(self, items: Vec<Value>) -> Option<Value> {
        match self {
            Kind::Array => Some(Value::Array(items)),
            Kind::Set => Some(Value::Set(items)),
            Kind::Map => {
                let mut items = items.into_iter();
                let pairs = std::iter::from_fn(|| Some((items.next()?, items.next()?)));
                Some(Value::Map(pairs.collect()))
            }
            Kind::Aside => None,
        }
    }
}

impl Part<'_> {
    fn value(self) -> Value {
        match self {
            Part::Whole(number) => Value::Int(number),
            Part::Double(number) => Value::Double(number),
            Part::Boolean(value) => Value::Boolean(value),
            Part::BigNumber(digits) => Value::BigNumber(digits.to_vec()),
            Part::Line(b"OK") => Value::Okay,
            Part::Line(line) => Value::SimpleString(text(line).into_owned()),
            Part::Text(bytes) => Value::BulkString(bytes.to_vec()),
            Part::Verbatim(bytes) => {
                let text = text(bytes);
                let (_, text) = text.split_once(':').unwrap_or(("", &text));
                Value::VerbatimString { format: VerbatimFormat::Text, text: text.to_owned() }
            }
            // Of what has items an error is the lack of one.
            Part::Nil | Part::Error(_) | Part::Open(..) => Value::Nil,
        }
    }
}

/// What stands at the start of some bytes, and where it ends; `None` when not all of it is there.
type Found<T> = Result<Option<(T, usize)>, Malformed>;

fn part(input: &[u8]) -> Found<Part<'_>> {
    let Some((kind, rest)) = input.split_first() else { return Ok(None) };
    let found = match kind {
        b':' => whole(rest)?.map(|(number, end)| (Part::Whole(number), end)),
        b'$' => sized(rest, Part::Text)?,
        b'=' => sized(rest, Part::Verbatim)?,
        b'!' => sized(rest, Part::Error)?,
        b'*' => counted(rest, 1, Kind::Array)?,
        b'~' => counted(rest, 1, Kind::Set)?,
        b'%' => counted(rest, 2, Kind::Map)?,
        b'|' => counted(rest, 2, Kind::Aside)?,
        b'>' => counted(rest, 1, Kind::Aside)?,
        b'+' | b'-' | b',' | b'#' | b'(' | b'_' => match line(rest)? {
            None => None,
            Some((line, end)) => {
                let part = match kind {
                    b'+' => Part::Line(line),
                    b'-' => Part::Error(line),
                    b',' => Part::Double(text(line).parse().map_err(|_| Malformed("not a number"))?),
                    b'#' => Part::Boolean(line == b"t"),
                    b'(' => Part::BigNumber(line),
                    _ => Part::Nil,
                };
                Some((part, end))
            }
        },
        _ => return Err(Malformed("unknown kind of reply")),
    };
    Ok(found.map(|(part, end)| (part, 1 + end)))
}

/// A text with its size ahead.
fn sized<'a>(input: &'a [u8], part: fn(&'a [u8]) -> Part<'a>) -> Found<Part<'a>> {
    let Some((size, start)) = whole(input)? else { return Ok(None) };
    if size == -1 {
        return Ok(Some((Part::Nil, start)));
    }
    let size = usize::try_from(size).map_err(|_| Malformed("not a size"))?;
    if size > MAX_TEXT {
        return Err(Malformed("a text is too long"));
    }
    let end = start + size + 2;
    match input.get(start..end) {
        None => Ok(None),
        Some([bytes @ .., b'\r', b'\n']) => Ok(Some((part(bytes), end))),
        Some(_) => Err(Malformed("a text has another size")),
    }
}

/// The count of what follows, which may be pairs.
fn counted<'a>(input: &[u8], each: usize, kind: Kind) -> Found<Part<'a>> {
    let Some((count, end)) = whole(input)? else { return Ok(None) };
    if count == -1 {
        return Ok(Some((Part::Nil, end)));
    }
    let count = usize::try_from(count).ok().and_then(|count| count.checked_mul(each));
    Ok(Some((Part::Open(kind, count.ok_or(Malformed("not a count"))?), end)))
}

fn line(input: &[u8]) -> Found<&[u8]> {
    match memchr(b'\n', input) {
        None if input.len() > MAX_LINE => Err(Malformed("a line does not end")),
        None => Ok(None),
        Some(end) => match &input[..end] {
            [line @ .., b'\r'] => Ok(Some((line, end + 1))),
            _ => Err(Malformed("a line has another end")),
        },
    }
}

/// A line with a whole number, which is short: to look at each byte once is quicker than to look for the end first.
fn whole(input: &[u8]) -> Found<i64> {
    const WRONG: Malformed = Malformed("not a whole number");
    let (negative, digits) = match input {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let (mut number, mut rest) = (0_i64, digits);
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        // Downwards, where there is room for one more.
        let more = number.checked_mul(10).and_then(|number| number.checked_sub(i64::from(digit - b'0')));
        (number, rest) = (more.ok_or(WRONG)?, after);
    }
    match rest {
        [] if input.len() > MAX_LINE => Err(Malformed("a line does not end")),
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', after @ ..] if rest.len() < digits.len() => {
            let number = if negative { Some(number) } else { number.checked_neg() };
            Ok(Some((number.ok_or(WRONG)?, input.len() - after.len())))
        }
        _ => Err(WRONG),
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::value;
    use proptest::prelude::*;
    use rstest::rstest;

    /// All replies of what comes in pieces of this size.
    fn replies(bytes: &[u8], size: usize) -> Result<Vec<Reply>, Malformed> {
        let (mut decoder, mut input, mut replies) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(size.max(1)) {
            input.extend_from_slice(piece);
            let mut used = 0;
            while let Some(reply) = decoder.next(&input, &mut used)? {
                replies.push(reply);
            }
            input.drain(..used);
        }
        Ok(replies)
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    /// As a server writes it.
    fn encode(value: &Value, out: &mut Vec<u8>) {
        let sized = |out: &mut Vec<u8>, kind: char, text: &[u8]| {
            out.extend(format!("{kind}{}\r\n", text.len()).as_bytes());
            out.extend(text);
            out.extend(b"\r\n");
        };
        let open = |out: &mut Vec<u8>, kind: char, count: usize| {
            out.extend(format!("{kind}{count}\r\n").as_bytes());
        };
        match value {
            Value::Nil => out.extend(b"_\r\n"),
            Value::Okay => out.extend(b"+OK\r\n"),
            Value::Int(number) => out.extend(format!(":{number}\r\n").as_bytes()),
            Value::Double(number) => out.extend(format!(",{number}\r\n").as_bytes()),
            Value::BulkString(text) => sized(out, '$', text),
            Value::SimpleString(text) => sized(out, '=', format!("txt:{text}").as_bytes()),
            Value::Array(items) => {
                open(out, '*', items.len());
                items.iter().for_each(|item| encode(item, out));
            }
            Value::Map(pairs) => {
                open(out, '%', pairs.len());
                pairs.iter().flat_map(|(key, value)| [key, value]).for_each(|item| encode(item, out));
            }
            other => panic!("{other:?} is no reply of these tests"),
        }
    }

    #[rstest]
    #[case("+PONG\r\n", Value::SimpleString("PONG".into()))]
    #[case(":-7\r\n", Value::Int(-7))]
    #[case(":9223372036854775807\r\n", Value::Int(i64::MAX))]
    #[case(":-9223372036854775808\r\n", Value::Int(i64::MIN))]
    #[case("$-1\r\n", Value::Nil)]
    #[case("*-1\r\n", Value::Nil)]
    #[case("$4\r\na\r\nb\r\n", bulk("a\r\nb"))]
    #[case("#t\r\n", Value::Boolean(true))]
    #[case(",-inf\r\n", Value::Double(f64::NEG_INFINITY))]
    #[case("(123\r\n", Value::BigNumber(b"123".to_vec()))]
    #[case("*2\r\n*0\r\n*1\r\n$0\r\n\r\n", Value::Array(vec![Value::Array(vec![]), Value::Array(vec![bulk("")])]))]
    #[case("~1\r\n:1\r\n", Value::Set(vec![Value::Int(1)]))]
    #[case("%1\r\n+a\r\n:1\r\n", Value::Map(vec![(Value::SimpleString("a".into()), Value::Int(1))]))]
    #[case("|1\r\n+ttl\r\n:1\r\n*1\r\n|1\r\n+a\r\n+b\r\n:2\r\n", Value::Array(vec![Value::Int(2)]))]
    #[case(">2\r\n+invalidate\r\n*0\r\n+OK\r\n", Value::Okay)]
    fn each_kind_is_read_in_pieces_of_any_size(#[case] text: &str, #[case] expected: Value) {
        for size in 1..=text.len() {
            assert_eq!(replies(text.as_bytes(), size), Ok(vec![Ok(expected.clone())]), "{size}");
        }
    }

    #[test]
    fn an_error_is_the_reply_or_the_lack_of_an_item() {
        let text = "*2\r\n-NOPERM no\r\n:1\r\n!5\r\nERR x\r\n-MASTERDOWN\r\n";
        let expected = [
            Ok(Value::Array(vec![Value::Nil, Value::Int(1)])),
            Err("ERR x".to_owned()),
            Err("MASTERDOWN".to_owned()),
        ];
        assert_eq!(replies(text.as_bytes(), 3), Ok(expected.to_vec()));
    }

    #[rstest]
    #[case("\r\n")]
    #[case("hello\r\n")]
    #[case(":1x\r\n")]
    #[case(":\r\n")]
    #[case(":9223372036854775808\r\n")]
    #[case("$-2\r\n")]
    #[case("*-2\r\n")]
    #[case("$1\r\nabc\r\n")]
    #[case("$9999999999\r\n")]
    #[case("%-3\r\n")]
    fn what_is_no_reply_is_an_error(#[case] text: &str) {
        assert!(replies(text.as_bytes(), text.len()).is_err());
    }

    #[test]
    fn depth_counts_and_lines_are_bounded() {
        assert_eq!(replies(&b"*1\r\n".repeat(MAX_DEPTH + 1), 7), Err(Malformed("nested too deep")));
        assert_eq!(replies(&b"+".repeat(MAX_LINE + 2), MAX_LINE), Err(Malformed("a line does not end")));
        // Waits for more, without room for as many.
        assert_eq!(replies(b"*9223372036854775807\r\n:1\r\n", 5), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_alike_in_any_pieces(
            bytes in proptest::collection::vec(prop_oneof![
                9 => proptest::sample::select(b"*$+-:,_#!=(%~>|\r\n\r\n\r\n0123456789ab".to_vec()),
                1 => any::<u8>(),
            ], 0..200),
            size in 1usize..20,
        ) {
            let (whole, pieces) = (replies(&bytes, bytes.len()), replies(&bytes, size));
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }

        #[test]
        fn replies_are_read_as_the_library_reads_them(value in value(), size in 1usize..64) {
            let mut bytes = Vec::new();
            encode(&value, &mut bytes);
            let library = redis::parse_redis_value(&bytes).unwrap();
            // NaN equals nothing.
            let expected: [Reply; 1] = [Ok(library)];
            prop_assert_eq!(format!("{:?}", replies(&bytes, size).unwrap()), format!("{expected:?}"));
        }
    }
}
