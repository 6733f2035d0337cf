//! INFO fields that no family comes from: leaving one out changes nothing on the page.

use std::sync::Arc;

use exposition::{Snapshot, text};

use crate::collectors::{Replies, Section};
use crate::connection::start_time;
use crate::info::{Field, Info, value};

/// What a field of INFO is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmapped {
    /// The heading above it.
    pub section: String,
    /// Its name.
    pub field: String,
    /// What the server says.
    pub value: String,
}

impl Unmapped {
    /// Whether it could be a sample as it is.
    pub fn is_number(&self) -> bool {
        value(&self.value).is_some()
    }
}

/// The fields that none of the collectors uses.
pub fn unmapped(sections: &[Box<dyn Section>], replies: &Replies) -> Vec<Unmapped> {
    let whole = page(sections, replies);
    let fields: Vec<Field<'_>> = replies.info.fields().collect();
    let unused = (0..fields.len()).filter(|left_out| {
        let mut text = String::new();
        let mut section = "";
        for (_, field) in fields.iter().enumerate().filter(|(at, _)| at != left_out) {
            if field.section != section {
                section = field.section;
                text += &format!("# {section}\r\n");
            }
            text += &format!("{}:{}\r\n", field.key, field.value);
        }
        let info = Info::parse(text);
        let start_time = start_time(&info);
        page(sections, &Replies { info: Arc::new(info), start_time, ..replies.clone() }) == whole
    });
    unused
        .map(|at| &fields[at])
        .map(|field| Unmapped {
            section: field.section.to_owned(),
            field: field.key.to_owned(),
            value: field.value.to_owned(),
        })
        .collect()
}

fn page(sections: &[Box<dyn Section>], replies: &Replies) -> String {
    let mut page = Snapshot::new();
    for section in sections {
        // What a collector lacks beside INFO is no matter here.
        let _ = section.write(replies, &mut page);
    }
    page.seal();
    let mut out = String::new();
    text::encode(&page, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::{self, Answers};
    use crate::options::Options;
    use crate::request::Server;

    #[test]
    fn only_what_changes_nothing_is_reported() {
        let text = "# Server\r\nredis_version:7.0.0\r\nuptime_in_seconds:5\r\nserver_time_usec:1000000000\r\n\
            brand_new:7\r\n# Memory\r\nused_memory:1\r\nused_memory_human:1B\r\n# Keyspace\r\ndb0:keys=1,expires=0\r\n";
        let info = Arc::new(Info::parse(text));
        let replies = Replies {
            server: Arc::new(Server::new(&info)),
            start_time: start_time(&info),
            info,
            replies: Answers::default(),
        };
        let found = unmapped(&collectors::all(&Options::default()), &replies);
        let found: Vec<_> = found.iter().map(|field| (field.field.as_str(), field.is_number())).collect();
        assert_eq!(found, [("brand_new", true), ("used_memory_human", false)]);
    }
}
