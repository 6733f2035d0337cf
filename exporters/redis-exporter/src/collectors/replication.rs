//! `redis_connected_slave_*`, `redis_master_*`, `redis_slave_info`, `redis_slave_repl_offset`:
//! both sides of replication, from INFO's Replication section.

use std::sync::Arc;

use exposition::{Column, Shape, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::{Info, number, part};
use crate::options::Options;

static SPEC: Spec = Spec {
    name: "replication",
    doc: "Replicas of a master, and the master of a replica",
    default_enabled: true,
};

pub(super) struct Replication {
    replicas: Arc<Shape>,
    offset: Column,
    lag: Column,
    masters: Arc<Shape>,
    link_up: Column,
    last_io: Column,
    sync: Column,
    repl_offset: Column,
    following: Arc<Shape>,
    slave_info: Column,
}

impl Replication {
    pub(super) fn new(options: &Options) -> Self {
        let mut replicas = Shape::new(&["slave_ip", "slave_port", "slave_state"]);
        let mut masters = Shape::new(&["master_host", "master_port"]);
        let mut following = Shape::new(&["master_host", "master_port", "read_only"]);
        let gauge = |shape: &mut Shape, family, help| shape.column(&options.gauge(family, help));
        Self {
            offset: gauge(
                &mut replicas,
                "connected_slave_offset_bytes",
                "Replication offset that a replica acknowledged.",
            ),
            lag: gauge(
                &mut replicas,
                "connected_slave_lag_seconds",
                "Seconds since a replica's last acknowledgement.",
            ),
            link_up: gauge(&mut masters, "master_link_up", "Whether the link to the master is up."),
            last_io: gauge(
                &mut masters,
                "master_last_io_seconds_ago",
                "Seconds since the master last sent something.",
            ),
            sync: gauge(
                &mut masters,
                "master_sync_in_progress",
                "Whether the replica is loading a copy of the master.",
            ),
            repl_offset: gauge(&mut masters, "slave_repl_offset", "Replication offset of this replica."),
            slave_info: gauge(&mut following, "slave_info", "Whom this replica follows; the value is 1."),
            replicas: Arc::new(replicas),
            masters: Arc::new(masters),
            following: Arc::new(following),
        }
    }

    /// `slaveN:ip=…,port=…,state=…,offset=…,lag=…`
    fn replicas(&self, replies: &Replies, page: &mut Snapshot) {
        let table = page.table_of(&self.replicas);
        for field in replies.info.section("Replication").filter(|field| is_replica(field.key)) {
            let text = |name| part(field.value, name);
            if let (Some(ip), Some(port), Some(state)) = (text("ip"), text("port"), text("state")) {
                table
                    .row(&[ip, port, state])
                    .set_some(self.offset, text("offset").and_then(number))
                    .set_some(self.lag, text("lag").and_then(number));
            }
        }
    }

    fn masters(&self, replies: &Replies, page: &mut Snapshot) {
        let masters = masters(&replies.info);
        let table = page.table_of(&self.masters);
        for master in &masters {
            table
                .row(&[master.host, master.port])
                .set_some(self.link_up, master.link_up)
                .set_some(self.last_io, master.last_io)
                .set_some(self.sync, master.sync)
                .set_some(self.repl_offset, master.repl_offset);
        }
        if replies.info.get("role") == Some("slave") {
            let table = page.table_of(&self.following);
            let read_only = replies.info.get("slave_read_only").unwrap_or_default();
            for master in &masters {
                table.row(&[master.host, master.port, read_only]).set(self.slave_info, 1.0);
            }
        }
    }
}

/// What a replica says of one master.
#[derive(Default)]
struct Master<'a> {
    host: &'a str,
    port: &'a str,
    link_up: Option<f64>,
    last_io: Option<f64>,
    sync: Option<f64>,
    repl_offset: Option<f64>,
}

/// The masters in a replica's INFO. KeyDB can follow several: the lines of each come after its own host line,
/// with a number in their names from the second master on.
fn masters(info: &Info) -> Vec<Master<'_>> {
    let mut masters: Vec<Master<'_>> = Vec::new();
    for field in info.section("Replication") {
        let key = unnumbered(field.key);
        if key == Some("host") {
            masters.push(Master { host: field.value, ..Master::default() });
        }
        let Some(master) = masters.last_mut() else { continue };
        match key {
            Some("port") => master.port = field.value,
            Some("link_status") => master.link_up = Some(f64::from(u8::from(field.value == "up"))),
            Some("last_io_seconds_ago") => master.last_io = number(field.value),
            Some("sync_in_progress") => master.sync = number(field.value),
            None if field.key == "slave_repl_offset" => master.repl_offset = number(field.value),
            _ => {}
        }
    }
    masters
}

/// `link_status` of both `master_link_status` and `master_2_link_status`.
fn unnumbered(key: &str) -> Option<&str> {
    let rest = key.strip_prefix("master_")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 { Some(rest) } else { rest[digits..].strip_prefix('_') }
}

/// Whether a key is `slave` with a number.
fn is_replica(key: &str) -> bool {
    key.strip_prefix("slave").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

impl Section for Replication {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        self.replicas(replies, page);
        self.masters(replies, page);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;

    #[test]
    fn a_master_lists_its_replicas_and_leaves_unknown_lag_out() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
            slave0:ip=::1,port=1,state=online,offset=7,lag=0,type=replica=x\r\nslave1:ip=b,port=2,state=wait_bgsave,offset=0\r\n";
        assert_eq!(
            lines(&page(&Replication::new(&Options::default()), &replies(info, []))),
            [
                "redis_connected_slave_lag_seconds{slave_ip=::1,slave_port=1,slave_state=online} 0",
                "redis_connected_slave_offset_bytes{slave_ip=::1,slave_port=1,slave_state=online} 7",
                "redis_connected_slave_offset_bytes{slave_ip=b,slave_port=2,slave_state=wait_bgsave} 0",
            ]
        );
    }

    #[test]
    fn a_replica_may_have_several_masters() {
        let info = "# Replication\r\nrole:slave\r\nmaster_host:a\r\nmaster_port:1\r\nmaster_link_status:up\r\n\
            master_last_io_seconds_ago:3\r\nslave_repl_offset:9\r\nmaster_1_host:b\r\nmaster_1_port:2\r\n\
            master_1_link_status:down\r\nslave_read_only:1\r\n";
        assert_eq!(
            lines(&page(&Replication::new(&Options::default()), &replies(info, []))),
            [
                "redis_master_last_io_seconds_ago{master_host=a,master_port=1} 3",
                "redis_master_link_up{master_host=a,master_port=1} 1",
                "redis_master_link_up{master_host=b,master_port=2} 0",
                "redis_slave_info{master_host=a,master_port=1,read_only=1} 1",
                "redis_slave_info{master_host=b,master_port=2,read_only=1} 1",
                "redis_slave_repl_offset{master_host=a,master_port=1} 9",
            ]
        );
    }
}
