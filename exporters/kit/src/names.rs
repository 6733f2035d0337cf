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
    /// The peer's name; with `*` at its end, every counter that starts like this and does not end in `_total`.
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

    fn of(&self, desc: &Desc) -> Option<Desc> {
        let name = match self.peer.strip_suffix('*') {
            None => (self.peer == desc.name).then(|| self.clean.to_owned()),
            Some(start) => {
                let bad = desc.kind == Kind::Counter && !desc.name.ends_with("_total");
                (bad && desc.name.starts_with(start)).then(|| format!("{}{}", desc.name, self.clean))
            }
        };
        name.map(|name| Desc::new(self.kind, name, desc.help.clone()))
    }
}

impl Names {
    /// Gives the families that are on the page now the chosen names.
    pub fn apply(self, table: &[CleanName], page: &mut Snapshot) {
        if self == Names::Clean {
            page.restate(|desc| table.iter().find_map(|name| Some((name.of(desc)?, name.factor))));
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
            page.sample(&Desc::counter("read_time", "Time."), 1500.0);
            page.sample(&Desc::counter("reset", "Reset."), 7.0);
            page.sample(&Desc::counter("bus_sent", "Sent."), 3.0);
            page.sample(&Desc::counter("bus_received_total", "Received."), 4.0);
            page.sample(&Desc::gauge("bus_depth", "Depth."), 5.0);
            page.seal();
            page
        };
        let text = |names: Names| {
            let mut page = page();
            names.apply(TABLE, &mut page);
            let mut text = String::new();
            exposition::text::encode(&page, &mut text);
            let lines = text.lines().filter(|line| !line.starts_with("# HELP"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            text(Names::Clean),
            [
                "# TYPE bus_depth gauge",
                "bus_depth 5",
                "# TYPE bus_received_total counter",
                "bus_received_total 4",
                "# TYPE bus_sent_total counter",
                "bus_sent_total 3",
                "# TYPE read_seconds_total counter",
                "read_seconds_total 1.5",
                "# TYPE reset_timestamp_seconds gauge",
                "reset_timestamp_seconds 7",
            ]
        );
        assert!(text(Names::Peer).contains(&"read_time 1500".to_owned()));
    }
}
