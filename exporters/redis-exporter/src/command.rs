//! A command as it is sent: an array of texts, each with its size ahead.

/// A command and its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    words: usize,
    /// The words as they are sent.
    text: Vec<u8>,
}

impl Command {
    /// The command of these words.
    pub fn of(words: &[&str]) -> Self {
        /// What is sent with a word that is not long.
        const AROUND: usize = "$10\r\n\r\n".len();
        let room = words.iter().map(|word| word.len() + AROUND).sum();
        let command = Self { words: 0, text: Vec::with_capacity(room) };
        words.iter().fold(command, Self::arg)
    }

    /// The command with one more word.
    #[must_use]
    pub fn arg(mut self, word: impl AsRef<[u8]>) -> Self {
        let word = word.as_ref();
        self.words += 1;
        push_size(&mut self.text, b'$', word.len());
        self.text.extend_from_slice(word);
        self.text.extend_from_slice(b"\r\n");
        self
    }

    /// Appends what is sent.
    pub fn write(&self, out: &mut Vec<u8>) {
        push_size(out, b'*', self.words);
        out.extend_from_slice(&self.text);
    }
}

/// Appends how long what follows is.
fn push_size(out: &mut Vec<u8>, kind: u8, size: usize) {
    fn push_decimal(out: &mut Vec<u8>, number: usize) {
        if number > 9 {
            push_decimal(out, number / 10);
        }
        out.push(b'0' + (number % 10) as u8);
    }
    out.push(kind);
    push_decimal(out, size);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn commands_are_written_as_the_library_writes_them(
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..14),
        ) {
            let mut library = redis::Cmd::new();
            for word in &words {
                library.arg(word);
            }
            let mut written = Vec::new();
            words.iter().fold(Command::default(), Command::arg).write(&mut written);
            prop_assert_eq!(written, library.get_packed_command());
        }
    }
}
