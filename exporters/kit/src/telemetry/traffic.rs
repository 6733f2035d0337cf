//! What the connections of this process carry, as far as they are [counted].

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{InspectReader, InspectWriter};

static RECEIVED: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);

/// A connection whose bytes are counted.
pub type Counted<S> = InspectReader<InspectWriter<S, fn(&[u8])>, fn(&[u8])>;

/// Counts what a connection receives and sends: below TLS, above TCP.
pub fn counted<S: AsyncRead + AsyncWrite>(stream: S) -> Counted<S> {
    InspectReader::new(InspectWriter::new(stream, sent), received)
}

fn received(bytes: &[u8]) {
    RECEIVED.fetch_add(bytes.len() as u64, Ordering::Relaxed);
}

fn sent(bytes: &[u8]) {
    SENT.fetch_add(bytes.len() as u64, Ordering::Relaxed);
}

/// Bytes received and sent so far.
pub fn bytes() -> (u64, u64) {
    (RECEIVED.load(Ordering::Relaxed), SENT.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn both_directions_are_counted() {
        let before = bytes();
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = counted(ours);
        ours.write_all(b"ask").await.unwrap();
        theirs.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        ours.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        let after = bytes();
        assert_eq!((after.0 - before.0, after.1 - before.1), (6, 3));
    }
}
