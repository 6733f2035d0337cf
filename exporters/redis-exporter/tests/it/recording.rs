//! A server that plays a recorded conversation.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use redis_exporter::options::{Compat, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The recorded conversations, by name.
pub(crate) const CAPTURES: &[&str] =
    &["cluster", "redis62", "redis8", "replica", "sentinel", "standalone", "valkey"];

/// A recorded file.
pub(crate) fn capture(name: &str, extension: &str) -> Vec<u8> {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(format!("{name}.{extension}"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The line that starts at `at`, without its end, and where the next one starts.
fn line(bytes: &[u8], at: usize) -> Option<(&str, usize)> {
    let length = bytes[at..].windows(2).position(|pair| pair == b"\r\n")?;
    Some((std::str::from_utf8(&bytes[at..at + length]).ok()?, at + length + 2))
}

/// Where the RESP value that starts at `at` ends; `None` when more bytes are needed.
pub(crate) fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    let (head, next) = line(bytes, at)?;
    match head.as_bytes().first()? {
        b'+' | b'-' | b':' => Some(next),
        b'$' => match head[1..].parse::<i64>().ok()? {
            -1 => Some(next),
            length => {
                let end = next + usize::try_from(length).ok()? + 2;
                (end <= bytes.len()).then_some(end)
            }
        },
        b'*' => (0..head[1..].parse::<i64>().ok()?.max(0)).try_fold(next, |at, _| value_end(bytes, at)),
        other => panic!("not a RESP value: {other:?}"),
    }
}

/// The words of the command, or the texts of the flat array, that starts at `at`, and its end.
pub(crate) fn words(bytes: &[u8], at: usize) -> Option<(Vec<String>, usize)> {
    let end = value_end(bytes, at)?;
    let (head, mut at) = line(bytes, at)?;
    let mut words = Vec::new();
    for _ in 0..head[1..].parse::<usize>().ok()? {
        let (_, start) = line(bytes, at)?;
        at = value_end(bytes, at)?;
        words.push(String::from_utf8_lossy(&bytes[start..at - 2]).into_owned());
    }
    Some((words, end))
}

/// Recorded replies by command, whatever the order they are asked in.
pub(crate) type Script = HashMap<Vec<String>, Vec<u8>>;

/// Reads both sides of a recorded conversation.
pub(crate) fn script(name: &str) -> Script {
    let (commands, replies) = (capture(name, "c2s"), capture(name, "s2c"));
    let (mut script, mut at, mut reply_at) = (Script::new(), 0, 0);
    while let Some((command, end)) = words(&commands, at) {
        at = end;
        let end = value_end(&replies, reply_at).expect("a reply for each command");
        script.insert(command, replies[reply_at..end].to_vec());
        reply_at = end;
    }
    assert_eq!((at, reply_at), (commands.len(), replies.len()), "{name}: not read to the end");
    script
}

/// What becomes of the reply to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// These bytes instead.
    Reply(Vec<u8>),
    /// Half of it, then the connection ends; each time.
    Cut,
    /// The same, the first time only.
    CutOnce,
}

type Faulty = Arc<Mutex<Option<(Vec<String>, Fault)>>>;

/// A server that answers from a script.
pub(crate) struct Stub {
    pub(crate) address: String,
    /// Commands in the order they came, by batch: one batch is what one read returned.
    pub(crate) batches: Arc<Mutex<Vec<Vec<Vec<String>>>>>,
    /// Commands that the script does not have.
    pub(crate) unknown: Arc<Mutex<Vec<Vec<String>>>>,
    faulty: Faulty,
}

impl Stub {
    /// Treats commands that begin with these words wrongly.
    pub(crate) fn fail(&self, words: &[&str], fault: Fault) {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        *self.faulty.lock().unwrap() = Some((words, fault));
    }

    /// Answers everything again.
    pub(crate) fn heal(&self) {
        *self.faulty.lock().unwrap() = None;
    }

    pub(crate) async fn start(script: Script) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stub = Stub {
            address: listener.local_addr().unwrap().to_string(),
            batches: Arc::default(),
            unknown: Arc::default(),
            faulty: Faulty::default(),
        };
        let (batches, unknown, script) =
            (Arc::clone(&stub.batches), Arc::clone(&stub.unknown), Arc::new(script));
        let faulty = Arc::clone(&stub.faulty);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(
                    stream,
                    Arc::clone(&script),
                    Arc::clone(&batches),
                    Arc::clone(&unknown),
                    Arc::clone(&faulty),
                ));
            }
        });
        stub
    }

    pub(crate) fn commands(&self) -> Vec<Vec<String>> {
        self.batches.lock().unwrap().iter().flatten().cloned().collect()
    }
}

async fn converse(
    mut stream: TcpStream,
    script: Arc<Script>,
    batches: Arc<Mutex<Vec<Vec<Vec<String>>>>>,
    unknown: Arc<Mutex<Vec<Vec<String>>>>,
    faulty: Faulty,
) {
    let mut input = Vec::with_capacity(1 << 16);
    while let Ok(1..) = stream.read_buf(&mut input).await {
        let (mut at, mut output, mut batch) = (0, Vec::new(), Vec::new());
        while let Some((command, end)) = words(&input, at) {
            at = end;
            let reply = answer(&script, &command).unwrap_or_else(|| {
                unknown.lock().unwrap().push(command.clone());
                b"-ERR not in the recording\r\n".to_vec()
            });
            let fault = faulty.lock().unwrap().clone().filter(|(words, _)| command.starts_with(words));
            match fault.map(|(_, fault)| fault) {
                None => output.extend(reply),
                Some(Fault::Reply(other)) => output.extend(other),
                Some(cut) => {
                    if cut == Fault::CutOnce {
                        *faulty.lock().unwrap() = None;
                    }
                    output.extend(&reply[..reply.len() / 2]);
                    let _ = stream.write_all(&output).await;
                    return;
                }
            }
            batch.push(command);
        }
        input.drain(..at);
        batches.lock().unwrap().push(batch);
        if stream.write_all(&output).await.is_err() {
            return;
        }
    }
}

/// The recorded reply; nothing in the logs that redis_exporter 1.86 did not read; for some of the parameters, the part of the reply for all of them.
fn answer(script: &Script, command: &[String]) -> Option<Vec<u8>> {
    if let Some(reply) = script.get(command) {
        return Some(reply.clone());
    }
    if command.first().is_some_and(|word| word == "COMMANDLOG") {
        return Some(b"*0\r\n".to_vec());
    }
    let ["CONFIG", "GET", wanted @ ..] = &command.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        return None;
    };
    let (all, _) = words(script.get(&["CONFIG", "GET", "*"].map(str::to_owned)[..])?, 0)?;
    let part: Vec<&String> =
        all.chunks_exact(2).filter(|pair| wanted.contains(&pair[0].as_str())).flatten().collect();
    let texts: String = part.iter().map(|text| format!("${}\r\n{text}\r\n", text.len())).collect();
    Some(format!("*{}\r\n{texts}", part.len()).into_bytes())
}

/// Options in the shape of redis_exporter 1.86.
pub(crate) fn compatible() -> Options {
    Options { compat: Compat::V1_86, ..Options::default() }
}
