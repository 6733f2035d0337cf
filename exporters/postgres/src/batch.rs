//! Statements that are asked for together leave in one message, which the server reads, runs and answers in one go.
//! Sent one by one, each would cost it a transaction and a write, and us a wake-up.
//!
//! A message is one transaction: a statement that fails takes those behind it along. They are sent again, each by
//! itself, and the one that failed stays by itself until it works again, so that it costs the others nothing more.
//!
//! A statement that is always the same is prepared when it is asked for first, in a message of its own: the server keeps
//! the text of the message with the statement.

use crate::query::{QueryError, QueryErrorKind, Rows};
use foldhash::fast::RandomState;
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Most statements that are kept prepared. A statement with a value in its text may be another one later, and those of
/// before must not pile up on the server.
const MAX_PREPARED: usize = 256;

/// What the names of prepared statements start with.
const NAME: &str = "exporter_";

/// The statements of one session.
pub(crate) struct Batch {
    client: Arc<Client>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Asked for since the last message left.
    waiting: Vec<Asked>,
    /// Numbers in the names of prepared statements, by their text.
    prepared: HashMap<String, u32, RandomState>,
    /// Those that the server still holds for nothing.
    unused: Vec<u32>,
    /// Those that failed when they ran last.
    failed: HashSet<String, RandomState>,
    next: u32,
}

struct Asked {
    sql: String,
    prepare: bool,
    reply: oneshot::Sender<Result<Rows, QueryError>>,
}

/// What a command of a message is for: which of the statements that were asked.
enum Command {
    Deallocate,
    /// Under this number.
    Prepare(usize, u32),
    Run(usize),
}

impl Batch {
    pub(crate) fn new(client: Arc<Client>) -> Arc<Batch> {
        Arc::new(Batch { client, state: Mutex::default() })
    }

    /// Asks for a statement, to be prepared if it is always the same. It leaves, with all that are asked for in the
    /// meantime, when the runtime comes to the next task.
    pub(crate) fn ask(
        self: &Arc<Self>,
        sql: &str,
        prepare: bool,
    ) -> oneshot::Receiver<Result<Rows, QueryError>> {
        let (reply, receiver) = oneshot::channel();
        let mut state = self.state();
        state.waiting.push(Asked { sql: sql.to_owned(), prepare, reply });
        if state.waiting.len() == 1 {
            tokio::spawn(Arc::clone(self).send());
        }
        receiver
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(self: Arc<Self>) {
        let (together, alone): (Vec<_>, Vec<_>) = {
            let mut state = self.state();
            let waiting = std::mem::take(&mut state.waiting);
            waiting.into_iter().partition(|asked| {
                let ready = !asked.prepare || state.prepared.contains_key(&asked.sql);
                ready && !state.failed.contains(&asked.sql)
            })
        };
        let each = |asked: Vec<Asked>| join_all(asked.into_iter().map(|one| self.run(vec![one])));
        let (behind, _) = tokio::join!(self.run(together), each(alone));
        each(behind).await;
    }

    /// Sends statements in one message and hands out the results. Returns those behind one that failed.
    async fn run(&self, asked: Vec<Asked>) -> Vec<Asked> {
        if asked.is_empty() {
            return asked;
        }
        let (text, commands) = self.state().message(&asked);
        let mut commands = commands.into_iter().peekable();
        let mut asked: Vec<Option<Asked>> = asked.into_iter().map(Some).collect();
        let mut rows = Rows::default();
        let error = match self.client.simple_query_raw(&text).await {
            Err(error) => Some(error),
            Ok(stream) => {
                let mut stream = std::pin::pin!(stream);
                loop {
                    match stream.try_next().await {
                        Ok(Some(SimpleQueryMessage::CommandComplete(_))) => match commands.next() {
                            Some(Command::Prepare(index, number)) => {
                                self.state().keep(&asked[index], number);
                            }
                            Some(Command::Run(index)) => {
                                self.finish(asked[index].take(), Ok(std::mem::take(&mut rows)));
                            }
                            Some(Command::Deallocate) | None => {}
                        },
                        Ok(Some(message)) => rows.push(message),
                        Ok(None) => break None,
                        Err(error) => break Some(error),
                    }
                }
            }
        };
        if let Some(error) = error {
            let error = QueryError::from(error);
            let connection = error.kind == QueryErrorKind::Connection;
            match commands.peek() {
                Some(Command::Prepare(index, _) | Command::Run(index)) if !connection => {
                    self.finish(asked[*index].take(), Err(error));
                }
                _ => asked.iter_mut().for_each(|one| self.finish(one.take(), Err(error.clone()))),
            }
        }
        asked.into_iter().flatten().collect()
    }

    fn finish(&self, asked: Option<Asked>, result: Result<Rows, QueryError>) {
        let Some(asked) = asked else { return };
        self.state().ended(&asked, result.is_ok());
        // Who asked may have given up.
        let _ = asked.reply.send(result);
    }
}

impl State {
    /// The text of a message, and what its commands are for.
    fn message(&mut self, asked: &[Asked]) -> (String, Vec<Command>) {
        let mut text = String::new();
        let mut commands = Vec::new();
        let number = |one: &Asked| self.prepared.get(&one.sql).filter(|_| one.prepare).copied();
        let mut numbers: Vec<Option<u32>> = asked.iter().map(number).collect();
        let new = asked.iter().zip(&numbers).filter(|(one, number)| one.prepare && number.is_none()).count();
        if new > 0 && self.prepared.len() + new > MAX_PREPARED {
            // What is still wanted is prepared again.
            self.unused.extend(std::mem::take(&mut self.prepared).into_values());
            self.failed.clear();
            numbers.fill(None);
        }
        for number in self.unused.drain(..) {
            let _ = write!(text, "DEALLOCATE {NAME}{number};");
            commands.push(Command::Deallocate);
        }
        for (index, (one, number)) in asked.iter().zip(numbers).enumerate() {
            // The line break ends a comment.
            let sql = &one.sql;
            let _ = match (one.prepare, number) {
                (false, _) => write!(text, "{sql}\n;"),
                (true, Some(number)) => write!(text, "EXECUTE {NAME}{number};"),
                (true, None) => {
                    let number = self.next;
                    self.next = self.next.wrapping_add(1);
                    commands.push(Command::Prepare(index, number));
                    write!(text, "PREPARE {NAME}{number} AS {sql}\n;EXECUTE {NAME}{number};")
                }
            };
            commands.push(Command::Run(index));
        }
        (text, commands)
    }

    /// Remembers that a statement was prepared.
    fn keep(&mut self, asked: &Option<Asked>, number: u32) {
        if let Some(asked) = asked
            && let Some(before) = self.prepared.insert(asked.sql.clone(), number)
        {
            self.unused.push(before);
        }
    }

    /// Remembers how a statement ended.
    fn ended(&mut self, asked: &Asked, ok: bool) {
        if ok {
            if !self.failed.is_empty() {
                self.failed.remove(&asked.sql);
            }
            return;
        }
        if self.failed.len() == MAX_PREPARED {
            self.failed.clear();
        }
        self.failed.insert(asked.sql.clone());
        // Whatever is wrong with it, a new one is not worse: a plan may have become invalid.
        self.unused.extend(self.prepared.remove(&asked.sql));
    }
}
