//! `redis_tile38_*`: a Tile38 server, from SERVER EXT.

use exposition::{Desc, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::value;
use crate::options::Options;
use crate::request::{Request, Server, texts};

static SPEC: Spec = Spec { name: "tile38", doc: "State of a Tile38 server", default_enabled: false };

/// Fields, with or without `tile38_` before them, and families.
const FIELDS: &[(&str, &str)] = &[
    ("alloc_bytes", "mem_alloc_bytes"),
    ("aof_size", "aof_size_bytes"),
    ("avg_point_size", "avg_item_size_bytes"),
    ("go_goroutines", "go_goroutines_total"),
    ("go_threads", "threads_total"),
    ("heap_alloc_bytes", "heap_size_bytes"),
    ("heap_released_bytes", "heap_released_bytes"),
    ("http_transport", "http_transport"),
    ("in_memory_size", "in_memory_size_bytes"),
    ("last_gc_time_seconds", "last_gc_time_seconds"),
    ("max_heap_size", "max_heap_size_bytes"),
    ("next_gc_bytes", "next_gc_bytes"),
    ("num_collections", "num_collections_total"),
    ("num_hooks", "num_hooks_total"),
    ("num_objects", "num_objects_total"),
    ("num_points", "num_points_total"),
    ("pointer_size", "pointer_size_bytes"),
    ("read_only", "read_only"),
    ("sys_cpus", "cpus_total"),
];

pub(super) struct Tile38 {
    fields: Vec<(&'static str, Desc)>,
}

impl Tile38 {
    pub(super) fn new(options: &Options) -> Self {
        let desc = |(field, family): &(&'static str, &str)| {
            let help = format!("Field {field} of SERVER EXT.");
            (*field, options.gauge(&format!("tile38_{family}"), &help))
        };
        Self { fields: FIELDS.iter().map(desc).collect() }
    }
}

impl Section for Tile38 {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, _: &Server) -> Vec<Request> {
        vec![Request::ServerExt]
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let Some(reply) = replies.get(&Request::ServerExt) else { return Ok(()) };
        for (key, text) in texts(&Request::ServerExt, reply?)? {
            let key = key.strip_prefix("tile38_").unwrap_or(&key);
            let known = self.fields.iter().find(|(field, _)| *field == key);
            if let (Some((_, desc)), Some(value)) = (known, value(&text)) {
                page.sample(desc, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;
    use redis::Value;

    #[test]
    fn fields_are_known_with_and_without_their_prefix() {
        let words = ["tile38_num_objects", "7", "read_only", "false", "tile38_id", "abc", "new_field", "1"];
        let reply = Value::Array(words.iter().map(|word| Value::BulkString((*word).into())).collect());
        let page = page(&Tile38::new(&Options::default()), &replies("", [(Request::ServerExt, reply)]));
        assert_eq!(lines(&page), ["redis_tile38_num_objects_total{} 7", "redis_tile38_read_only{} 0"]);
    }
}
