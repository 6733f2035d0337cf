//! A finished page: encoded and compressed at most once in each form, then shared by everyone who waited for it.

use bytes::Bytes;
use exposition::{Encoding, Format, Snapshot, negotiate, openmetrics, text};
use std::sync::Arc;
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

/// From this many samples on a page is large: making it takes milliseconds, and its memory counts.
pub(crate) const LARGE: usize = 20_000;

/// From this many samples on, making a body leaves the runtime's only thread, so that `/-/healthy` and other targets do not
/// wait for it: a millisecond or two. Before, handing it to another thread would cost more than it saves.
const fn blocking_samples(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Identity => LARGE,
        Encoding::Gzip => 1_000,
    }
}

/// A page that can be served in any form.
pub struct Page {
    snapshot: Arc<Snapshot>,
    forms: [OnceCell<Bytes>; 4],
    place: Option<Place>,
}

/// One of the places for large pages of a target: taken until the page and all its bodies are gone.
type Place = Arc<OwnedSemaphorePermit>;

impl Page {
    /// A page of a [sealed](Snapshot::seal) snapshot.
    pub fn new(snapshot: Snapshot) -> Page {
        Page { snapshot: Arc::new(snapshot), forms: Default::default(), place: None }
    }

    /// A page that keeps a place if it is large.
    pub(crate) fn with_place(snapshot: Snapshot, place: Option<OwnedSemaphorePermit>) -> Page {
        let place = place.filter(|_| snapshot.room() >= LARGE).map(Arc::new);
        Page { place, ..Page::new(snapshot) }
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
                return encode(&self.snapshot, format, encoding).into();
            }
            let snapshot = Arc::clone(&self.snapshot);
            let task = tokio::task::spawn_blocking(move || encode(&snapshot, format, encoding));
            // The task does not panic, and nobody aborts it.
            let body = task.await.unwrap_or_default();
            Bytes::from_owner(Body { body, _place: self.place.clone() })
        };
        self.forms[index].get_or_init(make).await.clone()
    }
}

/// What a large body keeps as long as a client reads it.
struct Body {
    body: Vec<u8>,
    _place: Option<Place>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

fn encode(snapshot: &Snapshot, format: Format, encoding: Encoding) -> Vec<u8> {
    let mut page = String::new();
    match format {
        Format::Text => text::encode(snapshot, &mut page),
        Format::OpenMetrics => {
            openmetrics::encode(snapshot, &mut page);
            page.push_str(openmetrics::EOF);
        }
    }
    match encoding {
        Encoding::Identity => page.into_bytes(),
        Encoding::Gzip => negotiate::gzip(page.as_bytes()),
    }
}
