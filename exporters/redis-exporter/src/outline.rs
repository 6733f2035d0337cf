//! What the text of INFO is apart from its values: headings and keys, in the server's order. It is mostly the same from one
//! scrape to the next, so that only the values have to be read again, and what collectors made of it can be kept.

use std::ops::Range;

use memchr::memchr;

/// Headings, keys and everything else of a text but its values.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The text without the values and the rest of their lines.
    text: String,
    /// The first one is what stands before any heading.
    sections: Vec<Section>,
    /// Lines with a value.
    lines: Vec<Line>,
    /// Numbers of these lines by [`by_length`] of the key, those of one key in the server's order.
    by_key: Vec<usize>,
}

/// A heading and the numbers of its lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Section {
    name: Range<usize>,
    lines: Range<usize>,
}

/// Where a key begins and ends.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    start: usize,
    colon: usize,
}

/// Where the values of a text are, in the order of the lines.
pub(crate) type Values = Vec<Range<usize>>;

/// Lengths are compared faster than texts, and mostly tell keys apart.
fn by_length(key: &[u8]) -> (usize, &[u8]) {
    (key.len(), key)
}

impl Outline {
    /// Splits a text. A value is what follows the first colon of a line, without blanks at the end of the line.
    pub(crate) fn read(text: &str) -> (Self, Values) {
        let mut outline = Self { sections: vec![Section::default()], ..Self::default() };
        let (mut values, mut at) = (Values::new(), 0);
        for line in text.split_inclusive('\n') {
            let blanks = line.len() - line.trim_ascii_start().len();
            let start = outline.text.len() + blanks;
            let number = outline.lines.len();
            let content = line.trim_ascii();
            if let Some(name) = content.strip_prefix('#') {
                let end = start + content.len();
                let name = end - name.trim_ascii_start().len()..end;
                outline.sections.push(Section { name, lines: number..number });
                outline.text += line;
            } else if let (Some((key, value)), Some(section)) =
                (content.split_once(':'), outline.sections.last_mut())
            {
                section.lines.end = number + 1;
                outline.lines.push(Line { start, colon: start + key.len() });
                let before = blanks + key.len() + 1;
                outline.text += &line[..before];
                values.push(at + before..at + before + value.len());
            } else {
                outline.text += line;
            }
            at += line.len();
        }
        let mut by_key: Vec<usize> = (0..outline.lines.len()).collect();
        by_key.sort_by(|a, b| by_length(outline.bytes(*a)).cmp(&by_length(outline.bytes(*b))));
        outline.by_key = by_key;
        (outline, values)
    }

    /// The values of a text that has this outline; `None` when it has another one.
    pub(crate) fn values(&self, text: &str) -> Option<Values> {
        let mut values = Values::with_capacity(self.lines.len());
        let (mut rest, mut own_at) = (text.as_bytes(), 0);
        for line in &self.lines {
            rest = rest.strip_prefix(&self.text.as_bytes()[own_at..=line.colon])?;
            let start = text.len() - rest.len();
            let (value, after) = rest.split_at(memchr(b'\n', rest).unwrap_or(rest.len()));
            values.push(start..start + value.trim_ascii_end().len());
            rest = after.get(1..).unwrap_or_default();
            own_at = line.colon + 1;
        }
        (rest == &self.text.as_bytes()[own_at..]).then_some(values)
    }

    /// The key of a line.
    pub(crate) fn key(&self, line: usize) -> &str {
        let Line { start, colon } = self.lines[line];
        &self.text[start..colon]
    }

    fn bytes(&self, line: usize) -> &[u8] {
        let Line { start, colon } = self.lines[line];
        &self.text.as_bytes()[start..colon]
    }

    /// The first line with a key.
    pub(crate) fn find(&self, key: &str) -> Option<usize> {
        let key = key.as_bytes();
        let at = self.by_key.partition_point(|line| by_length(self.bytes(*line)) < by_length(key));
        self.by_key.get(at).copied().filter(|line| self.bytes(*line) == key)
    }

    /// Headings, without their `# `, and the numbers of the lines below. The first one is empty.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.sections.iter().map(|section| (&self.text[section.name.clone()], section.lines.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Texts that often have the same outline.
    fn text() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            "[ab]:[ :0-9]{0,3}\r?\n",
            Just("# A\r\n".to_owned()),
            Just(" #B : 1 \n".to_owned()),
            Just("nonsense\n".to_owned()),
            Just("\r\n".to_owned()),
            Just(" c : é \r\n".to_owned()),
        ];
        (proptest::collection::vec(line, 0..6), "[a:\n]{0,2}").prop_map(|(lines, end)| lines.concat() + &end)
    }

    proptest! {
        #[test]
        fn a_known_outline_gives_the_same_values(known in text(), text in text()) {
            let (known, _) = Outline::read(&known);
            let (own, values) = Outline::read(&text);
            prop_assert_eq!(own.values(&text), Some(values.clone()));
            prop_assert_eq!(known.values(&text), (known == own).then_some(values));
        }
    }
}
