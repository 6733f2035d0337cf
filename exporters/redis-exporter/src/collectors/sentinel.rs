//! `redis_sentinel_*`: the masters that a Sentinel watches, from INFO's Sentinel section and the SENTINEL commands.

use exposition::{Desc, Snapshot};
use redis::Value;

use super::config::Every;
use super::{Replies, Section, Spec};
use crate::error::{Reason, ReplyError};
use crate::info::{number, part, value};
use crate::options::Options;
use crate::request::{Request, Server, Texts, is_master, items, text, texts};

static SPEC: Spec = Spec {
    name: "sentinel",
    doc: "Masters, replicas and peers that a Sentinel watches",
    default_enabled: true,
};

/// Fields of INFO that are one family each.
const FIELDS: &[&str] = &[
    "sentinel_masters",
    "sentinel_running_scripts",
    "sentinel_scripts_queue_length",
    "sentinel_simulate_failure_flags",
    "sentinel_tilt",
];

/// Fields of SENTINEL MASTERS: key, family, divisor.
const SETTINGS: &[(&str, &str, f64)] = &[
    ("config-epoch", "sentinel_master_config_epoch", 1.0),
    ("down-after-milliseconds", "sentinel_master_setting_down_after_milliseconds", 1.0),
    ("failover-timeout", "sentinel_master_setting_failover_timeout", 1.0),
    ("last-ok-ping-reply", "sentinel_master_last_ok_ping_reply_seconds", 1e3),
    ("parallel-syncs", "sentinel_master_setting_parallel_syncs", 1.0),
    ("quorum", "sentinel_master_setting_ckquorum", 1.0),
];

/// Parameters of the Sentinel's own configuration that hold secrets.
const SECRETS: &[&str] = &["sentinel-pass", "sentinel-user"];

/// Fields of SENTINEL SENTINELS that are labels.
const PEER: &[&str] = &["name", "ip", "port", "runid", "flags"];

/// Labels of everything about one master.
const MASTER: &[&str] = &["master_name", "master_address"];

pub(super) struct Sentinel {
    fields: Vec<(&'static str, Desc)>,
    settings: Vec<(&'static str, Desc, f64)>,
    status: Desc,
    slaves: Desc,
    sentinels: Desc,
    ok_slaves: Desc,
    ok_sentinels: Desc,
    ckquorum: Desc,
    peer: Option<Desc>,
    config: Option<Every>,
}

impl Sentinel {
    pub(super) fn new(options: &Options) -> Self {
        let field = |field: &&'static str| (*field, options.gauge(field, &format!("INFO field {field}.")));
        let setting = |(key, family, divisor): &(&'static str, &str, f64)| {
            (*key, options.gauge(family, &format!("Field {key} of SENTINEL MASTERS.")), *divisor)
        };
        Self {
            fields: FIELDS.iter().map(field).collect(),
            settings: SETTINGS.iter().map(setting).collect(),
            status: options.gauge("sentinel_master_status", "Whether the master's status is ok."),
            slaves: options.gauge("sentinel_master_slaves", "Replicas of a master."),
            sentinels: options.gauge("sentinel_master_sentinels", "Sentinels that watch a master."),
            ok_slaves: options.gauge("sentinel_master_ok_slaves", "Replicas of a master that are not down."),
            ok_sentinels: options.gauge(
                "sentinel_master_ok_sentinels",
                "Sentinels of a master that are not down, with this one.",
            ),
            ckquorum: options
                .gauge("sentinel_master_ckquorum_status", "Whether a failover would find its quorum."),
            peer: options.features.sentinel_peers.then(|| {
                options.gauge("sentinel_peer_info", "Another sentinel of a master; the value is 1.")
            }),
            config: options.include_config.then(|| Every::new(options, "sentinel_config", SECRETS)),
        }
    }

    /// `masterN:name=…,status=…,address=…,slaves=…,sentinels=…`
    fn info(&self, replies: &Replies, page: &mut Snapshot) {
        let info = &replies.info;
        for (key, desc) in &self.fields {
            if let Some(value) = info.section("Sentinel").find(|f| f.key == *key).and_then(|f| value(f.value))
            {
                page.sample(desc, value);
            }
        }
        let masters = || {
            let lines =
                info.section("Sentinel").filter(|field| is_master(field.key)).map(|field| field.value);
            lines.filter_map(|line| Some((part(line, "name")?, part(line, "address")?, line)))
        };
        let table = page.table(MASTER);
        let (slaves, sentinels) = (table.column(&self.slaves), table.column(&self.sentinels));
        for (name, address, line) in masters() {
            let read = |key| part(line, key).and_then(number);
            table
                .row(&[name, address])
                .set_some(slaves, read("slaves"))
                .set_some(sentinels, read("sentinels"));
        }
        let table = page.table(&["master_name", "master_address", "master_status"]);
        let column = table.column(&self.status);
        for (name, address, line) in masters() {
            let status = part(line, "status").unwrap_or_default();
            table.row(&[name, address, status]).set(column, f64::from(u8::from(status == "ok")));
        }
    }

    fn master(&self, replies: &Replies, master: &Texts<'_>, page: &mut Snapshot) -> Result<(), ReplyError> {
        let get = |key: &str| master.iter().find(|(name, _)| name == key).map(|(_, value)| &**value);
        let (Some(name), Some(ip), Some(port)) = (get("name"), get("ip"), get("port")) else {
            return Err(ReplyError::unexpected(Request::SentinelMasters.name()));
        };
        let address = format!("{ip}:{port}");
        let table = page.table(MASTER);
        let settings: Vec<_> =
            self.settings.iter().map(|(key, desc, divisor)| (*key, table.column(desc), divisor)).collect();
        let (ok_slaves, ok_sentinels) = (table.column(&self.ok_slaves), table.column(&self.ok_sentinels));
        let mut row = table.row(&[name, &address]);
        for (key, column, divisor) in settings {
            row.set_some(column, get(key).and_then(number).map(|value| value / divisor));
        }
        let slaves = healthy(replies, &Request::SentinelSlaves(name.to_owned()));
        let sentinels = healthy(replies, &Request::SentinelSentinels(name.to_owned()));
        if let Ok(count) = &slaves {
            row.set_some(ok_slaves, *count);
        }
        if let Ok(others) = &sentinels {
            // The reply lists the others: this one is well.
            row.set_some(ok_sentinels, others.map(|others| others + 1.0));
        }
        let peers = self.peers(replies, name, &address, page);
        slaves.and(sentinels).map(|_| ()).and(peers)
    }

    fn peers(
        &self,
        replies: &Replies,
        name: &str,
        address: &str,
        page: &mut Snapshot,
    ) -> Result<(), ReplyError> {
        let Some(peer) = &self.peer else { return Ok(()) };
        let request = Request::SentinelSentinels(name.to_owned());
        let Some(reply) = replies.get(&request) else { return Ok(()) };
        let table = page.table(&[MASTER, PEER].concat());
        let column = table.column(peer);
        for entry in items(reply?).ok_or_else(|| ReplyError::unexpected(request.name()))? {
            let fields = texts(&request, entry)?;
            let get = |key| fields.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value);
            let labels: Vec<&str> =
                [name, address].into_iter().chain(PEER.iter().map(|key| get(*key))).collect();
            table.row(&labels).set(column, 1.0);
        }
        Ok(())
    }

    /// The text of the reply is a label; an error is the answer "no".
    fn quorum(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let table = page.table(&["master_name", "message"]);
        let column = table.column(&self.ckquorum);
        let mut outcome = Ok(());
        for master in &replies.server.masters {
            match replies.get(&Request::SentinelCkquorum(master.clone())) {
                Some(Ok(reply)) => match text(reply).filter(|message| message.starts_with("OK")) {
                    Some(message) => drop(table.row(&[master, &message]).set(column, 1.0)),
                    None => outcome = outcome.and(Err(ReplyError::unexpected("SENTINEL CKQUORUM"))),
                },
                Some(Err(error)) if error.text.starts_with("NO") && error.reason == Reason::Protocol => {
                    table.row(&[master, &error.text]).set(column, 0.0);
                }
                Some(Err(error)) => outcome = outcome.and(Err(error)),
                None => {}
            }
        }
        outcome
    }
}

/// How many entries of SENTINEL SLAVES or SENTINEL SENTINELS are not down; `None` when it was not asked.
fn healthy(replies: &Replies, request: &Request) -> Result<Option<f64>, ReplyError> {
    let Some(reply) = replies.get(request) else { return Ok(None) };
    let entries = items(reply?).ok_or_else(|| ReplyError::unexpected(request.name()))?;
    let mut healthy = 0.0;
    for entry in entries {
        let flags = texts(request, entry)?.into_iter().find(|(key, _)| key == "flags");
        if flags.is_some_and(|(_, flags)| !flags.contains("s_down") && !flags.contains("o_down")) {
            healthy += 1.0;
        }
    }
    Ok(Some(healthy))
}

impl Section for Sentinel {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        if !server.sentinel {
            return Vec::new();
        }
        let each = server.masters.iter().flat_map(|master| {
            [
                Request::SentinelCkquorum(master.clone()),
                Request::SentinelSentinels(master.clone()),
                Request::SentinelSlaves(master.clone()),
            ]
        });
        let config = self.config.is_some().then_some(Request::SentinelConfig);
        [Request::SentinelMasters].into_iter().chain(each).chain(config).collect()
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        if !replies.server.sentinel {
            return Ok(());
        }
        self.info(replies, page);
        let mut outcome = self.quorum(replies, page);
        if let (Some(every), Some(reply)) = (&self.config, replies.get(&Request::SentinelConfig)) {
            let pairs = reply.and_then(|reply| texts(&Request::SentinelConfig, reply));
            outcome = outcome.and(pairs.map(|pairs| every.write(&pairs, page)));
        }
        let Some(reply) = replies.get(&Request::SentinelMasters) else { return outcome };
        let masters: &[Value] =
            items(reply?).ok_or_else(|| ReplyError::unexpected(Request::SentinelMasters.name()))?;
        for master in masters {
            outcome = outcome.and(self.master(replies, &texts(&Request::SentinelMasters, master)?, page));
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{page, replies};
    use super::*;

    const INFO: &str = "# Sentinel\r\nsentinel_masters:1\r\n\
        master0:name=m,status=odown,address=a:1,slaves=2,sentinels=3\r\n";

    #[test]
    fn a_missing_quorum_is_an_answer() {
        let mut replies = replies(INFO, []);
        let error = ReplyError {
            reason: Reason::Protocol,
            what: "SENTINEL CKQUORUM",
            text: "NOQUORUM 1 usable".into(),
        };
        replies.replies.push((Request::SentinelCkquorum("m".into()), Err(error)));
        let page = page(&Sentinel::new(&Options::default()), &replies);
        let labels = [("master_name", "m"), ("message", "NOQUORUM 1 usable")];
        assert_eq!(page.value("redis_sentinel_master_ckquorum_status", &labels), Some(0.0));
        assert_eq!(page.value("redis_sentinel_master_status", &[("master_status", "odown")]), Some(0.0));
        assert_eq!(page.value("redis_sentinel_master_slaves", &[]), Some(2.0));
    }

    #[test]
    fn entries_that_are_down_do_not_count() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let entry = |flags| Value::Array(vec![bulk("flags"), bulk(flags)]);
        let request = Request::SentinelSlaves("m".into());
        let reply = Value::Array(vec![entry("slave"), entry("s_down,slave"), entry("slave,o_down")]);
        assert_eq!(healthy(&replies(INFO, [(request.clone(), reply)]), &request).unwrap(), Some(1.0));
    }
}
