//! Patterns of keys, matched as the server does it: one walk of a database serves any number of them.

/// Whether `text` as a whole matches: `*`, `?`, `[ab]`, `[^a]`, `[a-z]`, and `\` before what is meant as it stands.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    // Behind the last star, and where in the text that is tried next.
    let mut star: Option<(usize, usize)> = None;
    while pos < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, pos));
        } else if let Some(next) = one(pattern, at, text[pos]) {
            (at, pos) = (next, pos + 1);
        } else if let Some((behind, tried)) = star {
            star = Some((behind, tried + 1));
            (at, pos) = (behind, tried + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Matches one byte with what stands at `at`, which is no star; gives where the pattern goes on.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        literal => (*literal == byte).then_some(at + 1),
    }
}

/// A class is open until `]` or the end of the pattern.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    loop {
        match pattern.get(at..) {
            None | Some([]) => break,
            Some([b'\\', literal, ..]) => {
                found |= *literal == byte;
                at += 2;
            }
            Some([b']', ..]) => {
                at += 1;
                break;
            }
            Some([from, b'-', to, ..]) => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                at += 3;
            }
            Some([literal, ..]) => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("*", "", true)]
    #[case("user:*", "user:1", true)]
    #[case("user:*", "users", false)]
    #[case("*:*:x", "a:b:c:x", true)]
    #[case("h?llo", "hello", true)]
    #[case("h[ae]llo", "hillo", false)]
    #[case("h[^e]llo", "hallo", true)]
    #[case("k[1-3]", "k2", true)]
    #[case("k[3-1]", "k2", true)]
    #[case("a\\*b", "a*b", true)]
    #[case("a\\*b", "axb", false)]
    #[case("[]", "]", false)]
    #[case("[ab", "b", true)]
    #[case("**a**", "xay", true)]
    fn patterns_match_as_the_server_says(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            pattern in proptest::collection::vec(any::<u8>(), 0..30),
            text in proptest::collection::vec(any::<u8>(), 0..30),
        ) {
            let _ = matches(&pattern, &text);
        }

        #[test]
        fn an_escaped_text_matches_itself_only(text in "[a-c*?\\[\\]^\\\\-]{0,8}", other in "[a-c*?]{0,8}") {
            let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(matches(escaped.as_bytes(), text.as_bytes()));
            prop_assert_eq!(matches(escaped.as_bytes(), other.as_bytes()), text == other);
        }
    }
}
