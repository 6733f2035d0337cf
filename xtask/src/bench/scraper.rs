//! A client that takes next to no time itself: one kept connection, one buffer, no library and no other thread. A client of some
//! comfort takes as long as the exporter, of the cores that the exporter and its server run on.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What ends an answer without a length.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A connection that is kept for many scrapes.
pub(super) struct Scraper {
    stream: TcpStream,
    address: SocketAddr,
    /// What was read; the rest is room.
    buffer: Vec<u8>,
    length: usize,
}

/// Where the body begins, and how long it is unless it comes in chunks.
struct Head {
    body: usize,
    content_length: Option<usize>,
}

impl Scraper {
    /// Connects.
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, address, buffer: vec![0; 1 << 20], length: 0 })
    }

    /// `GET path`: how long it took to the last byte, and the body. Any status but 200 is an error.
    pub(super) fn get(&mut self, path: &str) -> Result<(Duration, Vec<u8>)> {
        // The thread gives its work to others while it waits.
        tokio::task::block_in_place(|| self.exchange(path))
            .with_context(|| format!("GET http://{}{path}", self.address))
    }

    fn exchange(&mut self, path: &str) -> Result<(Duration, Vec<u8>)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.length = 0;
        let start = Instant::now();
        self.stream.write_all(request.as_bytes()).context("sending the request")?;
        let head = loop {
            self.read()?;
            if let Some(head) = head(&self.buffer[..self.length])? {
                break head;
            }
        };
        while !self.is_whole(&head) {
            self.read()?;
        }
        let time = start.elapsed();
        let body = &self.buffer[head.body..self.length];
        Ok((time, if head.content_length.is_some() { body.to_vec() } else { without_chunks(body)? }))
    }

    fn read(&mut self) -> Result<()> {
        if self.length == self.buffer.len() {
            self.buffer.resize(self.length * 2, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.length..]).context("reading the answer")?;
        ensure!(read > 0, "the connection was closed");
        self.length += read;
        Ok(())
    }

    fn is_whole(&self, head: &Head) -> bool {
        match head.content_length {
            Some(length) => self.length >= head.body + length,
            // The line break before it may be that of the head.
            None => self.buffer[head.body - 2..self.length].ends_with(LAST_CHUNK),
        }
    }
}

/// The head of an answer, once all of it is there.
fn head(received: &[u8]) -> Result<Option<Head>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    let mut lines = text.lines();
    let status = lines.next().unwrap_or_default();
    ensure!(status.starts_with("http/1.1 200"), "{status}: {}", String::from_utf8_lossy(&received[end..]));
    let value =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let content_length = value("content-length").map(str::parse).transpose().context("Content-Length")?;
    ensure!(content_length.is_some() || value("transfer-encoding") == Some("chunked"), "a body without end");
    Ok(Some(Head { body: end + 4, content_length }))
}

/// The body that came in chunks.
fn without_chunks(mut chunks: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::with_capacity(chunks.len());
    loop {
        let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") else {
            bail!("a chunk without end")
        };
        let size =
            std::str::from_utf8(&chunks[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.context("the size of a chunk is no number")?;
        let chunk = chunks.get(end + 2..end + 2 + size).context("a chunk is too short")?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(chunk);
        chunks = chunks.get(end + 4 + size..).context("no last chunk")?;
    }
}

#[cfg(test)]
mod tests {
    use testkit::{http::get, peer::REDIS_EXPORTER};

    use super::*;

    /// With a length and in chunks.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_takes_one_request_after_another() -> Result<()> {
        // Nothing listens there, so that every answer comes at once.
        let peer = REDIS_EXPORTER.start(&["--redis.addr=redis://127.0.0.1:1"], &[]).await?;
        let mut scraper = Scraper::open(peer.address)?;
        for _ in 0..3 {
            assert_eq!(scraper.get("/health")?.1, b"ok");
            let (body, expected) =
                (scraper.get("/metrics")?.1, get(&format!("http://{}/metrics", peer.address)).await?);
            let lines = |text: &str| {
                text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(lines(&String::from_utf8(body)?), lines(&expected.text));
        }
        assert!(scraper.get("/nowhere").is_err_and(|error| format!("{error:#}").contains("404")));
        drop(peer);
        assert!(scraper.get("/health").is_err());
        Ok(())
    }
}
