//! The kept connection to one target: made when it is needed, given up when it broke or when a reply is overdue.
//! What is known of the server from earlier scrapes is kept beside it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{ProtocolVersion, RedisConnectionInfo};
use tokio::time::{Instant, timeout_at};

use crate::address::Address;
use crate::cluster_nodes::View;
use crate::command::Command;
use crate::dial;
use crate::error::{CommandError, Reason, ReplyError};
use crate::info::Info;
use crate::options::Options;
use crate::outline::Outline;
use crate::pipe::{Answer, Pipe};
use crate::request::{Request, Server};
use crate::slots::Slots;

/// How long a refused command is not sent again to the same server process.
pub(crate) const REFUSAL_KEPT: Duration = Duration::from_secs(600);

/// What is being done while there is no connection yet.
const CONNECTING: &str = "connecting";

/// One server, and what is kept about it between scrapes.
pub struct Target {
    address: Address,
    options: Arc<Options>,
    client_name: bool,
    state: Mutex<State>,
    /// Held while a connection is being made, so that there is one attempt at a time.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    link: Option<Link>,
    /// Connections made so far; the number of the newest one.
    made: u64,
    /// What INFO last said on the kept connection.
    server: Option<Arc<Server>>,
    /// Of what INFO last said.
    outline: Arc<Outline>,
    refused: Refused,
    started: Option<(String, f64)>,
    /// The connection that was made ready for reading keys: its number, and whether that of a replica.
    ready: (u64, bool),
    /// `None` when it is no node of a cluster that is shown whole.
    share: Option<Arc<Share>>,
    view: Option<View>,
}

/// The key work of one node of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Share {
    /// The slots whose keys are read on it.
    pub slots: Slots,
    /// It reads for its master.
    pub replica: bool,
}

/// Commands that one server process refused, until when that is believed.
#[derive(Default)]
struct Refused {
    run_id: String,
    commands: HashMap<Request, (Instant, ReplyError)>,
}

/// A connection and its number.
#[derive(Clone)]
pub struct Link {
    number: u64,
    made: Instant,
    pipe: Pipe,
    /// The database that is selected; `None` when that is not sure. Held while commands in one are under way.
    pub(crate) selected: Arc<tokio::sync::Mutex<Option<i64>>>,
}

impl Target {
    /// A target; nothing is sent yet.
    pub fn new(address: Address, options: Arc<Options>, client_name: bool) -> Self {
        Self {
            address,
            options,
            client_name,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Where it is, without secrets.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What the operator chose.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How many connections were made since the start.
    pub fn connections_made(&self) -> u64 {
        self.state().made
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What INFO last said on the connection that is kept.
    pub fn server(&self) -> Option<Arc<Server>> {
        self.state().server.clone()
    }

    /// Keeps what INFO says. The start time is computed once for each server process, because two clocks drift.
    pub fn learn(&self, info: &Info) -> (Arc<Server>, Option<f64>) {
        let server = Arc::new(Server::new(info));
        let mut state = self.state();
        if state.refused.run_id != server.run_id {
            state.refused = Refused { run_id: server.run_id.clone(), ..Refused::default() };
        }
        let known =
            state.started.as_ref().filter(|(run_id, _)| *run_id == server.run_id && !run_id.is_empty());
        let started = known.map(|(_, started)| *started).or_else(|| start_time(info));
        state.started = started.map(|started| (server.run_id.clone(), started));
        state.server = Some(Arc::clone(&server));
        state.outline = Arc::clone(info.outline());
        (server, started)
    }

    /// The outline of what INFO last said.
    pub fn outline(&self) -> Arc<Outline> {
        Arc::clone(&self.state().outline)
    }

    /// The refusal of a command that is still believed.
    pub fn refusal(&self, request: &Request) -> Option<ReplyError> {
        let mut state = self.state();
        let (since, error) = state.refused.commands.get(request)?;
        if since.elapsed() < REFUSAL_KEPT {
            return Some(error.clone());
        }
        state.refused.commands.remove(request);
        None
    }

    /// Remembers that the server refused a command for a reason that will not go away by itself.
    pub fn refuse(&self, request: &Request, error: &ReplyError) {
        if error.reason.is_lasting() {
            self.state().refused.commands.insert(request.clone(), (Instant::now(), error.clone()));
        }
    }

    /// The kept connection, or a new one when there is none but that with the number `broken`.
    pub async fn link(&self, broken: Option<u64>, deadline: Instant) -> Result<Link, ReplyError> {
        let kept = || self.state().link.clone().filter(|link| Some(link.number) != broken);
        if let Some(link) = kept() {
            return Ok(link);
        }
        let connect = async {
            let _one_at_a_time = self.connecting.lock().await;
            if let Some(link) = kept() {
                return Ok(link);
            }
            let pipe = self.connect().await?;
            let mut state = self.state();
            state.made += 1;
            let selected = Arc::new(tokio::sync::Mutex::new(Some(self.address.database())));
            let link = Link { number: state.made, made: Instant::now(), pipe, selected };
            state.link = Some(link.clone());
            state.server = None;
            Ok(link)
        };
        timeout_at(deadline, connect).await.unwrap_or_else(|_| Err(ReplyError::timeout(CONNECTING)))
    }

    /// Whether a connection was made ready for reading keys; keeps that it is from now on.
    pub fn make_ready(&self, number: u64, replica: bool) -> bool {
        std::mem::replace(&mut self.state().ready, (number, replica)) == (number, replica)
    }

    /// Gives a node of a cluster its key work.
    pub fn share(&self, share: Share) {
        self.state().share = Some(Arc::new(share));
    }

    /// The key work of a node of a cluster.
    pub fn shared(&self) -> Option<Arc<Share>> {
        self.state().share.clone()
    }

    /// Keeps what the node says of its cluster.
    pub fn see(&self, view: View) {
        self.state().view = Some(view);
    }

    /// What the node said of its cluster since this was last asked.
    pub fn take_view(&self) -> Option<View> {
        self.state().view.take()
    }

    /// Closes the kept connection, so that the next scrape makes a new one.
    pub fn give_up(&self) {
        self.state().link = None;
    }

    async fn connect(&self) -> Result<Pipe, ReplyError> {
        let pipe = dial::connect(&self.address).await.map_err(|failure| failure.of(CONNECTING))?;
        self.log_in(&pipe).await.map_err(|failure| failure.of(CONNECTING))?;
        Ok(pipe)
    }

    /// Says who we are and chooses the database, all in one write.
    async fn log_in(&self, pipe: &Pipe) -> Result<(), CommandError> {
        let login = self.address.login();
        let mut user = login.username();
        loop {
            let hello = hello(login, user).map(|command| pipe.send(command));
            let database = Some(login.db()).filter(|database| *database != 0);
            let select = database.map(|database| pipe.send(select(database)));
            let name =
                self.client_name.then(|| pipe.send(Command::of(&["CLIENT", "SETNAME", "redis_exporter"])));
            let [hello, select, name] = [done(hello).await, done(select).await, done(name).await];
            match hello {
                // A server without users, before 6.0.
                Err(failure) if user.is_some() && failure.text.contains("wrong number of arguments") => {
                    user = None;
                    continue;
                }
                hello => hello.map_err(CommandError::of_login)?,
            }
            select?;
            // Whoever may not set a name may still read INFO; only a lost connection matters.
            return match name {
                Err(failure) if failure.lost || failure.reason == Reason::Maxclients => Err(failure),
                _ => Ok(()),
            };
        }
    }
}

/// The command that chooses a database.
pub(crate) fn select(database: i64) -> Command {
    Command::of(&["SELECT"]).arg(database.to_string())
}

/// Waits for a command, if it was sent.
pub(crate) async fn done(sent: Option<Answer>) -> Result<(), CommandError> {
    match sent {
        Some(answer) => answer.await.map(|_| ()),
        None => Ok(()),
    }
}

/// The command that says who we are; none when there is nothing to say.
fn hello(login: &RedisConnectionInfo, user: Option<&str>) -> Option<Command> {
    let password = login.password();
    if login.protocol() == ProtocolVersion::RESP2 {
        let words = |password| user.into_iter().chain([password]);
        return password.map(|password| words(password).fold(Command::of(&["AUTH"]), Command::arg));
    }
    // HELLO wants a user.
    let login = password.map(|password| ["AUTH", user.unwrap_or("default"), password]);
    Some(login.into_iter().flatten().fold(Command::of(&["HELLO", "3"]), Command::arg))
}

impl Link {
    /// Its number: later ones are greater.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it was made.
    pub fn made(&self) -> Instant {
        self.made
    }

    /// Sends one command. Commands that are sent before any is waited for leave in one write.
    pub(crate) fn send(&self, command: Command) -> Answer {
        self.pipe.send(command)
    }
}

/// When the server process started, in Unix seconds, by the server's own clock where it tells it (6.0 and later).
pub(crate) fn start_time(info: &Info) -> Option<f64> {
    let uptime = info.number("uptime_in_seconds")?;
    let now = match info.number("server_time_usec") {
        Some(usec) => (usec / 1e6).floor(),
        None => SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs() as f64,
    };
    Some(now - uptime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Credentials, TlsFiles};
    use crate::request::NEWEST_SLOW;

    fn target() -> Target {
        let address = Address::parse("localhost:1", &Credentials::default(), &TlsFiles::default()).unwrap();
        Target::new(address, Arc::default(), true)
    }

    #[test]
    fn the_start_time_is_held_for_each_process() {
        let target = target();
        let info = |run_id, usec| {
            Info::parse(format!("run_id:{run_id}\r\nuptime_in_seconds:10\r\nserver_time_usec:{usec}\r\n"))
        };
        assert_eq!(target.learn(&info("a", 100_999_999)).1, Some(90.0));
        assert_eq!(target.learn(&info("a", 101_000_000)).1, Some(90.0));
        assert_eq!(target.learn(&info("b", 101_000_000)).1, Some(91.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_believed_for_a_while_and_for_one_process() {
        let target = target();
        target.learn(&Info::parse("run_id:a\r\n"));
        let refused = ReplyError { reason: Reason::Noperm, what: "SLOWLOG LEN", text: "NOPERM".into() };
        target.refuse(&Request::SlowlogLen, &refused);
        target.refuse(&NEWEST_SLOW, &ReplyError::timeout("SLOWLOG GET"));
        assert!(target.refusal(&Request::SlowlogLen).is_some() && target.refusal(&NEWEST_SLOW).is_none());
        target.learn(&Info::parse("run_id:a\r\n"));
        assert!(target.refusal(&Request::SlowlogLen).is_some());
        tokio::time::advance(REFUSAL_KEPT).await;
        assert!(target.refusal(&Request::SlowlogLen).is_none());
        target.refuse(&Request::SlowlogLen, &refused);
        target.learn(&Info::parse("run_id:b\r\n"));
        assert!(target.refusal(&Request::SlowlogLen).is_none());
    }
}
