//! One scrape's view of a target: each request is sent once, whoever asks for it, and its reply is shared.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use futures_util::future::join_all;
use redis::Value;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::collectors::{Answers, Replies, Reply};
use crate::command::Command;
use crate::connection::{Link, Target, done, select};
use crate::error::{Reason, ReplyError};
use crate::info::Info;
use crate::pipe::Answer;
use crate::request::{Request, Server, into_text};

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

/// A request that was made, and what its reply came to. Many may wait for it.
struct Asked<T> {
    /// What the first of them waits for.
    sent: Mutex<Option<Answer>>,
    reply: OnceCell<Result<T, ReplyError>>,
}

/// One that several collectors may have made.
type Shared = Arc<Asked<Arc<Value>>>;

impl<T> Asked<T> {
    fn new(sent: Answer) -> Self {
        Self { sent: Mutex::new(Some(sent)), reply: OnceCell::new() }
    }

    /// Whether the reply is not there, and will not be looked for any more.
    fn is_overdue(&self) -> bool {
        match self.reply.get() {
            None => true,
            Some(reply) => reply.as_ref().is_err_and(|error| error.reason == Reason::Timeout),
        }
    }
}

/// The connection of one scrape.
pub struct Session {
    target: Arc<Target>,
    deadline: Instant,
    opened: Instant,
    connect_time: Duration,
    /// What the scrape before this one learnt on the same connection.
    known: Option<Arc<Server>>,
    info: OnceLock<Asked<Arc<Facts>>>,
    asked: Mutex<HashMap<Request, Shared, RandomState>>,
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
            info: OnceLock::new(),
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
        self.info.get()?.reply.get()
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
        self.overdue.load(Ordering::Relaxed)
            || self.info.get().is_none_or(Asked::is_overdue)
            || lock(&self.asked).values().any(|asked| asked.is_overdue())
    }

    /// The replies to what a collector wants. What it wants depends on the server: what the last scrape knew decides
    /// first, so that nothing waits for INFO; INFO's answer is checked and anything else is asked for then.
    pub async fn fetch(&self, requests: impl Fn(&Server) -> Vec<Request>) -> Result<Replies, ReplyError> {
        self.start_info();
        let early = self.known.as_deref().map(&requests).unwrap_or_default();
        let early = self.start_all(early);
        let facts = self.read_facts().await;
        let mut replies = self.wait_for_all(early).await;
        let facts = facts?;
        if self.known.as_ref() != Some(&facts.server) {
            let mut late = requests(&facts.server);
            late.retain(|request| replies.iter().all(|(asked, _)| asked != request));
            replies.extend(self.wait_for_all(self.start_all(late)).await);
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
        let info = self.start_info();
        let read = || async {
            let mut reply = self.reply(&Request::Info, &info.sent).await;
            // Servers that do not know the argument answer plain INFO.
            if matches!(&reply, Err(error) if error.reason == Reason::Protocol) {
                reply = self.reply(&Request::InfoPlain, &Mutex::default()).await;
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
        info.reply.get_or_init(read).await.clone()
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
        commands: &[Command],
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
                let _ = timeout_at(deadline, link.send(Command::of(words))).await;
            }
        }
        let needed = *selected != Some(database);
        *selected = None;
        let select = needed.then(|| link.send(select(database)));
        let sent: Vec<Answer> = commands.iter().map(|command| link.send(command.clone())).collect();
        let work = async {
            let select = done(select).await;
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
        self.wait_for_all(self.start_all(requests)).await
    }

    fn start_all(&self, requests: Vec<Request>) -> Vec<(Request, Shared)> {
        let start = |request| {
            let asked = self.start(&request);
            (request, asked)
        };
        requests.into_iter().map(start).collect()
    }

    async fn wait_for_all(&self, started: Vec<(Request, Shared)>) -> Answers {
        let wait = |(request, asked): (Request, Shared)| async move {
            let reply = self.wait(&request, &asked).await;
            (request, reply)
        };
        let mut answers = Answers::with_capacity(started.len());
        let mut started = started.into_iter();
        while let Some(next) = started.next() {
            answers.push(wait(next).await);
            if self.second.initialized() {
                // What is left was lost with the connection, and is sent again when it is waited for: all of it at once.
                answers.extend(join_all(started.by_ref().map(wait)).await);
            }
        }
        answers
    }

    /// Sends INFO, unless that was done.
    fn start_info(&self) -> &Asked<Arc<Facts>> {
        self.info.get_or_init(|| Asked::new(self.send(&Request::Info)))
    }

    /// Sends a request, unless that was done, or this server process refused it not long ago.
    fn start(&self, request: &Request) -> Shared {
        let mut asked = lock(&self.asked);
        if let Some(asked) = asked.get(request) {
            return Arc::clone(asked);
        }
        let new = Arc::new(match self.target.refusal(request) {
            None => Asked::new(self.send(request)),
            Some(refusal) => Asked { sent: Mutex::default(), reply: OnceCell::new_with(Some(Err(refusal))) },
        });
        asked.insert(request.clone(), Arc::clone(&new));
        new
    }

    /// The reply to a request that was made.
    async fn wait(&self, request: &Request, asked: &Asked<Arc<Value>>) -> Reply {
        let reply = || async {
            let reply = self.reply(request, &asked.sent).await;
            if let Err(error) = &reply {
                self.target.refuse(request, error);
            }
            reply.map(Arc::new)
        };
        asked.reply.get_or_init(reply).await.clone()
    }

    fn send(&self, request: &Request) -> Answer {
        self.link.send(request.command(self.target.options()))
    }

    /// The reply to a request, if it comes before the deadline. When the connection was kept and turns out to be dead, the
    /// request is sent once more on a new one.
    async fn reply(&self, request: &Request, sent: &Mutex<Option<Answer>>) -> Result<Value, ReplyError> {
        // Who waited for it before may have given up.
        let sent = lock(sent).take().unwrap_or_else(|| self.send(request));
        let kept = self.link.made() < self.opened;
        let mut reply = timeout_at(self.deadline, sent).await;
        if kept && matches!(&reply, Ok(Err(failure)) if failure.lost) {
            // What connecting needs is much, and seldom needed: it stays out of everything that waits for a reply.
            let again = || Box::pin(self.target.link(Some(self.link.number()), self.deadline));
            let link = self.second.get_or_init(again).await.as_ref().map_err(Clone::clone)?;
            reply = timeout_at(self.deadline, link.send(request.command(self.target.options()))).await;
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
