//! The 16,384 slots of a cluster: which one a key is in, and which ones a node owns.

/// Slots of a cluster.
pub const SLOTS: u16 = 16_384;

/// Ranges of slots, both ends included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Slots(Vec<(u16, u16)>);

impl Slots {
    /// Reads the words `0-5460` and `7` of CLUSTER NODES. Slots on their way, `[93-<-…]`, still belong to who has them.
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let range = |word: &str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let range = (first.parse().ok()?, last.parse().ok()?);
            (range.0 <= range.1 && range.1 < SLOTS).then_some(range)
        };
        let mut ranges: Vec<(u16, u16)> = words.filter_map(range).collect();
        ranges.sort_unstable();
        Self(ranges)
    }

    /// Each slot.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.iter().map(|(first, last)| usize::from(last - first) + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key is in one of them.
    pub fn hold(&self, key: &[u8]) -> bool {
        let slot = slot(key);
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

/// The slot of a key: CRC-16/XMODEM of what stands between its first `{` and the next `}`, or of all of it.
pub fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key[open..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[open..open + length])
    };
    crc16(tag().unwrap_or(key)) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_has_the_slot_that_the_specification_says() {
        // The check value of the specification, and keys with tags.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    #[test]
    fn ranges_are_read_and_counted() {
        let slots = Slots::parse("5-9 1 [93-<-a1] 16384 9-8 x".split(' '));
        assert_eq!((slots.count(), slots.iter().collect::<Vec<_>>()), (6, vec![1, 5, 6, 7, 8, 9]));
        assert!(Slots::parse("0-16383".split(' ')).hold(b"any") && !Slots::default().hold(b"any"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,40}", key in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Slots::parse(text.split(' ')).hold(&key);
        }
    }
}
