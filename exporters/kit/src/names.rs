//! `--names`: families under the name that the peer has for them, or under one that `promtool check metrics` has
//! nothing against.

use exposition::{Desc, Kind, Snapshot};

/// Which names badly named families have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Names {
    /// The peer's, also where promtool objects to them.
    #[default]
    Peer,
    /// Names with the suffix of their type and a base unit.
    Clean,
}

/// A family with a bad name, and what it is called, is and counts in with a clean one.
pub struct CleanName {
    /// The peer's name without the namespace; with `*` at its end, every counter that starts like this and does not end
    /// in `_total`.
    peer: &'static str,
    /// The clean name; what is appended to the peer's, where that ends in `*`.
    clean: &'static str,
    kind: Kind,
    /// What the values are multiplied by.
    factor: f64,
}

impl CleanName {
    /// A counter.
    pub const fn counter(peer: &'static str, clean: &'static str) -> CleanName {
        CleanName { peer, clean, kind: Kind::Counter, factor: 1.0 }
    }

    /// A gauge.
    pub const fn gauge(peer: &'static str, clean: &'static str) -> CleanName {
        CleanName { peer, clean, kind: Kind::Gauge, factor: 1.0 }
    }

    /// The same with values in another unit.
    #[must_use]
    pub const fn times(mut self, factor: f64) -> CleanName {
        self.factor = factor;
        self
    }

    /// The peer's name, as the table has it.
    pub const fn peer(&self) -> &'static str {
        self.peer
    }

    fn of(&self, desc: &Desc, namespace: &str) -> Option<Desc> {
        let own = desc.name.strip_prefix(namespace)?.strip_prefix('_')?;
        let clean = match self.peer.strip_suffix('*') {
            None => (self.peer == own).then(|| self.clean.to_owned()),
            Some(start) => {
                let bad = desc.kind == Kind::Counter && !own.ends_with("_total");
                (bad && own.starts_with(start)).then(|| format!("{own}{}", self.clean))
            }
        };
        clean.map(|clean| Desc::new(self.kind, format!("{namespace}_{clean}"), desc.help.clone()))
    }
}

impl Names {
    /// Gives the families of a namespace that are on the page now the chosen names.
    pub fn apply(self, table: &[CleanName], namespace: &str, page: &mut Snapshot) {
        if self == Names::Clean {
            page.restate(|desc| table.iter().find_map(|name| Some((name.of(desc, namespace)?, name.factor))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_type_and_unit_change_together() {
        const TABLE: &[CleanName] = &[
            CleanName::counter("read_time", "read_seconds_total").times(0.001),
            CleanName::gauge("reset", "reset_timestamp_seconds"),
            CleanName::counter("bus_*", "_total"),
        ];
        let page = || {
            let mut page = Snapshot::new();
            page.sample(&Desc::counter("db_read_time", "Time."), 1500.0);
            page.sample(&Desc::counter("db_reset", "Reset."), 7.0);
            page.sample(&Desc::counter("db_bus_sent", "Sent."), 3.0);
            page.sample(&Desc::counter("db_bus_received_total", "Received."), 4.0);
            page.sample(&Desc::gauge("db_bus_depth", "Depth."), 5.0);
            page.seal();
            page
        };
        let text = |names: Names| {
            let mut page = page();
            names.apply(TABLE, "db", &mut page);
            let mut text = String::new();
            exposition::text::encode(&page, &mut text);
            let lines = text.lines().filter(|line| !line.starts_with("# HELP"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            text(Names::Clean),
            [
                "# TYPE db_bus_depth gauge",
                "db_bus_depth 5",
                "# TYPE db_bus_received_total counter",
                "db_bus_received_total 4",
                "# TYPE db_bus_sent_total counter",
                "db_bus_sent_total 3",
                "# TYPE db_read_seconds_total counter",
                "db_read_seconds_total 1.5",
                "# TYPE db_reset_timestamp_seconds gauge",
                "db_reset_timestamp_seconds 7",
            ]
        );
        assert!(text(Names::Peer).contains(&"db_read_time 1500".to_owned()));
    }
}
