//! A finished page: encoded and compressed at most once in each form, then shared by everyone who waited for it.

use bytes::Bytes;
use exposition::{Encoding, Format, Snapshot, negotiate, openmetrics, text};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// From this many samples on, making a body leaves the runtime's only thread, so that `/-/healthy` and other targets do not
/// wait for it: a millisecond or two. Before, handing it to another thread would cost more than it saves.
const fn blocking_samples(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Identity => 20_000,
        Encoding::Gzip => 1_000,
    }
}

/// A page that can be served in any form.
pub struct Page {
    snapshot: Arc<Snapshot>,
    forms: [OnceCell<Bytes>; 4],
}

impl Page {
    /// A page of a [sealed](Snapshot::seal) snapshot.
    pub fn new(snapshot: Snapshot) -> Page {
        Page { snapshot: Arc::new(snapshot), forms: Default::default() }
    }

    /// What is on it.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The body in a form.
    pub async fn body(&self, format: Format, encoding: Encoding) -> Bytes {
        let index = usize::from(format == Format::OpenMetrics) * 2 + usize::from(encoding == Encoding::Gzip);
        let make = || async {
            if self.snapshot.room() < blocking_samples(encoding) {
                return encode(&self.snapshot, format, encoding);
            }
            let snapshot = Arc::clone(&self.snapshot);
            let task = tokio::task::spawn_blocking(move || encode(&snapshot, format, encoding));
            // The task does not panic, and nobody aborts it.
            task.await.unwrap_or_default()
        };
        self.forms[index].get_or_init(make).await.clone()
    }
}

fn encode(snapshot: &Snapshot, format: Format, encoding: Encoding) -> Bytes {
    let mut page = String::new();
    match format {
        Format::Text => text::encode(snapshot, &mut page),
        Format::OpenMetrics => {
            openmetrics::encode(snapshot, &mut page);
            page.push_str(openmetrics::EOF);
        }
    }
    match encoding {
        Encoding::Identity => page.into(),
        Encoding::Gzip => negotiate::gzip(page.as_bytes()).into(),
    }
}
