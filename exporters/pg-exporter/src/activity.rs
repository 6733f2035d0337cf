//! Server processes, grouped by everything that collectors show of them: one statement for all of these collectors, since it
//! is listing the processes that costs.
//!
//! Read from the function behind `pg_stat_activity`, `pg_stat_ssl` and `pg_stat_gssapi`.

use std::collections::BTreeMap;

use crate::read::{Found, FoundRow, Names, Read};

/// Processes in groups.
pub(crate) static SESSIONS: Read = Read::Statement(|_| {
    "SELECT a.datid, a.state, pg_catalog.pg_get_userbyid(a.usesysid), a.application_name,
            a.backend_type, a.wait_event_type, a.wait_event, a.own, a.client, a.sslversion, a.sslcipher,
            a.gss_auth, a.gss_enc, a.count, a.max_tx, a.xmin_age, a.transactions
     FROM (SELECT datid, usesysid, state, application_name, backend_type, wait_event_type, wait_event,
                  pid = pg_catalog.pg_backend_pid() AS own, client_port IS NOT NULL AS client,
                  sslversion, sslcipher, gss_auth, gss_enc, pg_catalog.count(*) AS count,
                  extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(xact_start)) AS max_tx,
                  pg_catalog.max(pg_catalog.age(backend_xmin)) AS xmin_age, pg_catalog.count(xact_start) AS transactions
           FROM pg_catalog.pg_stat_get_activity(NULL)
           GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13) a"
        .to_owned()
});

/// Processes that have all of this in common.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a>(FoundRow<'a>);

impl<'a> Group<'a> {
    /// Database, state, user, application, kind of process, type of wait event, wait event; empty where there is none.
    pub(crate) fn labels(self, databases: &Names<'a>) -> [&'a str; 7] {
        let mut labels = [0, 1, 2, 3, 4, 5, 6].map(|column| self.0.get(column).unwrap_or_default());
        labels[0] = databases.get(labels[0]).copied().unwrap_or_default();
        // What the function makes of a role that was dropped.
        if labels[2].starts_with("unknown (OID=") {
            labels[2] = "";
        }
        labels
    }

    /// State of the sessions; none for processes that are no sessions.
    pub(crate) fn state(self) -> Option<&'a str> {
        self.0.get(1)
    }

    /// Kind of process.
    pub(crate) fn backend_type(self) -> Option<&'a str> {
        self.0.get(4)
    }

    /// What type of event they wait for.
    pub(crate) fn wait_event_type(self) -> Option<&'a str> {
        self.0.get(5)
    }

    /// Whether it is the session that asks.
    pub(crate) fn is_own(self) -> bool {
        self.0.get(7) == Some("t")
    }

    /// TLS version and cipher of client connections, empty without TLS; none where there is no client.
    pub(crate) fn tls(self) -> Option<[&'a str; 2]> {
        (self.0.get(8) == Some("t")).then(|| [9, 10].map(|column| self.0.get(column).unwrap_or_default()))
    }

    /// Whether GSSAPI encrypts; none where the client did not authenticate by it.
    pub(crate) fn gssapi(self) -> Option<&'static str> {
        let client = self.0.get(8) == Some("t") && self.0.get(11) == Some("t");
        client.then(|| if self.0.get(12) == Some("t") { "true" } else { "false" })
    }

    /// Number of processes.
    pub(crate) fn count(self) -> f64 {
        self.0.float(13).unwrap_or_default()
    }

    /// Longest time in seconds that a transaction has been running; none without a transaction.
    pub(crate) fn longest_transaction(self) -> Option<f64> {
        self.0.float(14)
    }

    /// Number of open transactions.
    pub(crate) fn transactions(self) -> f64 {
        self.0.float(16).unwrap_or_default()
    }

    /// Age in transactions of the oldest snapshot.
    pub(crate) fn xmin_age(self) -> Option<f64> {
        self.0.float(15)
    }
}

/// The groups.
pub(crate) fn groups(sessions: &Found) -> impl Iterator<Item = Group<'_>> {
    sessions.iter().map(Group)
}

/// Number of processes by something that they have.
pub(crate) fn counts<'a, K: Ord>(
    groups: impl Iterator<Item = Group<'a>>,
    key: impl Fn(Group<'a>) -> Option<K>,
) -> BTreeMap<K, f64> {
    let mut counts = BTreeMap::new();
    for group in groups {
        if let Some(key) = key(group) {
            *counts.entry(key).or_default() += group.count();
        }
    }
    counts
}
