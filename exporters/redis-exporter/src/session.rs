//! One scrape's view of a target: each request is sent once, whoever asks for it, and its reply is shared.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use futures_util::future::join;
use redis::{Cmd, Value};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::collectors::{Answers, Replies, Reply};
use crate::connection::{Link, Target};
use crate::error::{Reason, ReplyError};
use crate::info::Info;
use crate::pipe::Answer;
use crate::request::{self, Request, Server, into_text};

/// What INFO says, read once a scrape.
#[derive(Debug)]
pub struct Facts {
    /// The fields.
    pub info: Arc<Info>,
    /// What decides about requests.
    pub server: Arc<Server>,
    /// When the server process started, in Unix seconds.
    pub start_time: Option<f64>,
}

/// A request that was made, whose reply many may wait for.
struct Asked {
    /// What the first of them waits for.
    sent: Mutex<Option<Answer>>,
    reply: OnceCell<Reply>,
}

/// The connection of one scrape.
pub struct Session {
    target: Arc<Target>,
    deadline: Instant,
    opened: Instant,
    connect_time: Duration,
    /// What the scrape before this one learnt on the same connection.
    known: Option<Arc<Server>>,
    facts: OnceCell<Result<Arc<Facts>, ReplyError>>,
    asked: Mutex<HashMap<Request, Arc<Asked>, RandomState>>,
    link: Link,
    /// What took its place when it was dead.
    second: OnceCell<Result<Link, ReplyError>>,
    notes: Mutex<Vec<(&'static str, ReplyError)>>,
    /// A reply to a command that is no [`Request`] is overdue.
    overdue: AtomicBool,
}

impl Session {
    /// Takes the target's kept connection, or makes one.
    pub async fn open(target: Arc<Target>, deadline: Instant) -> Result<Self, ReplyError> {
        let opened = Instant::now();
        let link = target.link(None, deadline).await?;
        let fresh = link.made() >= opened;
        Ok(Self {
            deadline,
            opened,
            connect_time: if fresh { opened.elapsed() } else { Duration::ZERO },
            known: target.server(),
            facts: OnceCell::new(),
            asked: Mutex::default(),
            link,
            second: OnceCell::new(),
            notes: Mutex::default(),
            overdue: AtomicBool::new(false),
            target,
        })
    }

    /// How long connecting took; zero when the connection was kept from an earlier scrape.
    pub fn connect_time(&self) -> Duration {
        self.connect_time
    }

    /// What INFO said; `None` when it was not answered yet.
    pub fn facts(&self) -> Option<&Result<Arc<Facts>, ReplyError>> {
        self.facts.get()
    }

    /// Keeps an error that cost a part of a collector's samples.
    pub fn note(&self, collector: &'static str, error: ReplyError) {
        lock(&self.notes).push((collector, error));
    }

    /// The errors that were noted.
    pub fn notes(&self) -> Vec<(&'static str, ReplyError)> {
        lock(&self.notes).clone()
    }

    /// Whether a reply is overdue, so that the connection cannot be used again.
    pub fn is_stuck(&self) -> bool {
        let overdue = |reply: Option<&ReplyError>| reply.is_some_and(|error| error.reason == Reason::Timeout);
        let facts = self.facts.get();
        self.overdue.load(Ordering::Relaxed)
            || facts.is_none_or(|facts| overdue(facts.as_ref().err()))
            || lock(&self.asked)
                .values()
                .any(|asked| asked.reply.get().is_none_or(|reply| overdue(reply.as_ref().err())))
    }

    /// The replies to what a collector wants. What it wants depends on the server: what the last scrape knew decides
    /// first, so that nothing waits for INFO; INFO's answer is checked and anything else is asked for then.
    pub async fn fetch(&self, requests: impl Fn(&Server) -> Vec<Request>) -> Result<Replies, ReplyError> {
        let early = self.known.as_deref().map(&requests).unwrap_or_default();
        let (facts, mut replies) = if early.is_empty() {
            (self.read_facts().await, Answers::default())
        } else {
            join(self.read_facts(), self.ask_all(early)).await
        };
        let facts = facts?;
        if self.known.as_ref() != Some(&facts.server) {
            let mut late = requests(&facts.server);
            late.retain(|request| replies.iter().all(|(asked, _)| asked != request));
            replies.extend(self.ask_all(late).await);
        }
        Ok(Replies {
            info: Arc::clone(&facts.info),
            server: Arc::clone(&facts.server),
            start_time: facts.start_time,
            replies,
        })
    }

    /// INFO, which is read once a scrape.
    pub async fn read_facts(&self) -> Result<Arc<Facts>, ReplyError> {
        let read = || async {
            let mut reply = self.reply(&Request::Info, self.send(&Request::Info)).await;
            // Servers that do not know the argument answer plain INFO.
            if matches!(&reply, Err(error) if error.reason == Reason::Protocol) {
                reply = self.reply(&Request::InfoPlain, self.send(&Request::InfoPlain)).await;
            }
            let unexpected = || ReplyError::unexpected(Request::Info.name());
            let text = into_text(reply?).ok_or_else(unexpected)?;
            let info = Arc::new(Info::parse_like(text, &self.target.outline()));
            // Without a single field nothing is known, not even that a database is empty.
            if info.fields().next().is_none() {
                return Err(unexpected());
            }
            let (server, start_time) = self.target.learn(&info);
            Ok(Arc::new(Facts { info, server, start_time }))
        };
        self.facts.get_or_init(read).await.clone()
    }

    /// The server.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether there are keys to be read on this server; a node of a cluster may have none.
    pub fn has_keys(&self) -> bool {
        self.target.shared().is_none_or(|share| !share.slots.is_empty())
    }

    /// Whether chosen keys are read on this server: nothing is read on a master when only replicas may be asked.
    pub fn reads_keys(&self, facts: &Facts) -> bool {
        let only_replicas = self.target.options().features.only_replicas;
        self.has_keys() && (!only_replicas || facts.info.get("role") == Some("slave"))
    }

    /// Whether a key is read here and not on another node of the cluster.
    pub fn owns(&self, key: &str) -> bool {
        self.target.shared().is_none_or(|share| share.slots.hold(key.as_bytes()))
    }

    /// Number of the database that connections begin in.
    pub fn own_database(&self) -> i64 {
        self.target.address().database()
    }

    /// When work of many batches must end, so that what it found by then is still served.
    fn soft_deadline(&self) -> Instant {
        let margin = self.deadline.saturating_duration_since(self.opened) / 20;
        self.deadline - margin
    }

    /// Runs commands in one database, all in one write, one reply each. Nothing runs in another database: when
    /// selecting it fails, so does all of it.
    pub async fn in_database(
        &self,
        database: i64,
        what: &'static str,
        commands: &[Cmd],
    ) -> Result<Vec<Result<Value, ReplyError>>, ReplyError> {
        let facts = self.read_facts().await?;
        let link = match self.second.get() {
            Some(second) => second.as_ref().map_err(Clone::clone)?,
            None => &self.link,
        };
        let deadline = self.soft_deadline();
        let mut selected = link.selected.lock().await;
        let replica = self.target.shared().is_some_and(|share| share.replica);
        if !self.target.make_ready(link.number(), replica) {
            // Redis has NO-TOUCH since 7.2, which is also what every Valkey says.
            let quiet = (facts.server.version >= (7, 2)).then_some(&["CLIENT", "NO-TOUCH", "on"][..]);
            for words in quiet.into_iter().chain(replica.then_some(&["READONLY"][..])) {
                let _ = timeout_at(deadline, link.send(&request::words(words))).await;
            }
        }
        let mut select = Cmd::new();
        select.arg("SELECT").arg(database);
        let needed = *selected != Some(database);
        *selected = None;
        let select = needed.then(|| link.send(&select));
        let sent: Vec<Answer> = commands.iter().map(|command| link.send(command)).collect();
        let work = async {
            let select = match select {
                Some(answer) => answer.await.map(|_| ()),
                None => Ok(()),
            };
            let mut replies = Vec::with_capacity(sent.len());
            for answer in sent {
                replies.push(answer.await);
            }
            (select, replies)
        };
        let Ok((select, replies)) = timeout_at(deadline, work).await else {
            self.overdue.store(true, Ordering::Relaxed);
            return Err(ReplyError::timeout(what));
        };
        select.map_err(|failure| failure.of("SELECT"))?;
        *selected = Some(database);
        Ok(replies.into_iter().map(|reply| reply.map_err(|failure| failure.of(what))).collect())
    }

    /// One reply, whatever the server is.
    pub async fn ask(&self, request: Request) -> Reply {
        self.wait(&request, &self.start(&request)).await
    }

    /// The replies to requests that leave in one write, in their order.
    pub async fn ask_all(&self, requests: Vec<Request>) -> Answers {
        let started: Vec<_> = requests.iter().map(|request| self.start(request)).collect();
        let mut answers = Answers::with_capacity(requests.len());
        for (request, asked) in requests.into_iter().zip(started) {
            let reply = self.wait(&request, &asked).await;
            answers.push((request, reply));
        }
        answers
    }

    /// Sends a request, unless that was done, or this server process refused it not long ago.
    fn start(&self, request: &Request) -> Arc<Asked> {
        let mut asked = lock(&self.asked);
        if let Some(asked) = asked.get(request) {
            return Arc::clone(asked);
        }
        let refusal = self.target.refusal(request);
        let sent = Mutex::new(refusal.is_none().then(|| self.send(request)));
        let new = Arc::new(Asked { sent, reply: OnceCell::new_with(refusal.map(Err)) });
        asked.insert(request.clone(), Arc::clone(&new));
        new
    }

    /// The reply to a request that was made.
    async fn wait(&self, request: &Request, asked: &Asked) -> Reply {
        let reply = || async {
            // Who waited for it before may have given up.
            let sent = lock(&asked.sent).take().unwrap_or_else(|| self.send(request));
            let reply = self.reply(request, sent).await;
            if let Err(error) = &reply {
                self.target.refuse(request, error);
            }
            reply.map(Arc::new)
        };
        asked.reply.get_or_init(reply).await.clone()
    }

    fn send(&self, request: &Request) -> Answer {
        self.link.send(&request.command(self.target.options()))
    }

    /// The reply to a request that was sent, if it comes before the deadline. When the connection was kept and turns out to
    /// be dead, the request is sent once more on a new one.
    async fn reply(&self, request: &Request, sent: Answer) -> Result<Value, ReplyError> {
        let kept = self.link.made() < self.opened;
        let mut reply = timeout_at(self.deadline, sent).await;
        if kept && matches!(&reply, Ok(Err(failure)) if failure.lost) {
            let again = || self.target.link(Some(self.link.number()), self.deadline);
            let link = self.second.get_or_init(again).await.as_ref().map_err(Clone::clone)?;
            reply = timeout_at(self.deadline, link.send(&request.command(self.target.options()))).await;
        }
        match reply {
            Ok(reply) => reply.map_err(|failure| failure.of(request.name())),
            Err(_) => Err(ReplyError::timeout(request.name())),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
