//! `redis_rdb_current_size_bytes`: size of the RDB file, when the server runs on this machine.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exposition::{Desc, Snapshot};

use super::config::parameter;
use crate::options::Options;
use crate::request::Request;
use crate::session::Session;

static SPEC: Spec =
    Spec { name: "rdb_file", doc: "Size of the RDB file on this machine", default_enabled: false };

pub(super) struct RdbFile {
    options: Options,
    size: Desc,
}

impl RdbFile {
    pub(super) fn new(options: &Options) -> Self {
        let help = "Size of the RDB file on the exporter's machine; 0 before the first save.";
        Self { options: options.clone(), size: options.gauge("rdb_current_size_bytes", help) }
    }

    async fn read(&self, session: &Session) -> Result<Snapshot, CollectError> {
        let request = |server: &_| Request::config(server, &self.options);
        let replies = session.fetch(|server| request(server).into_iter().collect()).await?;
        let mut page = Snapshot::new();
        let Some(request) = request(&replies.server) else { return Ok(page) };
        let Some(reply) = replies.get(&request) else { return Ok(page) };
        let reply = reply?;
        let folder = parameter(&request, reply, "dir")?.unwrap_or_default();
        let name = parameter(&request, reply, "dbfilename")?.unwrap_or_default();
        let file = file(&folder, &name)?;
        // A file system may hang; the scrape then goes on without this.
        let size = tokio::task::spawn_blocking(move || size(&file)).await;
        let size = size.map_err(|error| CollectError::new(Outcome::Error, error.to_string()))??;
        page.sample(&self.size, size as f64);
        Ok(page)
    }
}

/// The server's file. Its name must be one: whoever may change the server's configuration chooses it.
fn file(folder: &str, name: &str) -> Result<PathBuf, CollectError> {
    let is_name = Path::new(name).file_name().is_some_and(|last| last == name);
    if !is_name || !Path::new(folder).is_absolute() {
        let message = format!("the server's dir {folder:?} and dbfilename {name:?} name no file");
        return Err(CollectError::new(Outcome::Error, message));
    }
    Ok(Path::new(folder).join(name))
}

fn size(file: &Path) -> Result<u64, CollectError> {
    let fail = |cause: String| {
        CollectError::new(Outcome::Error, format!("the RDB file {}: {cause}", file.display()))
    };
    match std::fs::metadata(file) {
        Ok(found) if found.is_file() => Ok(found.len()),
        Ok(_) => Err(fail("not a file".to_owned())),
        // Nothing was saved yet; without the folder the server is on another machine.
        Err(error) if error.kind() == ErrorKind::NotFound && file.parent().is_some_and(Path::is_dir) => Ok(0),
        Err(error) => Err(fail(error.to_string())),
    }
}

impl Collector<Session> for RdbFile {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(self.read(session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_name_in_a_folder_is_looked_at() {
        for (folder, name) in [("/data", "../passwd"), ("/data", ""), ("/data", "a/b"), ("data", "dump.rdb")]
        {
            assert!(file(folder, name).is_err(), "{folder} {name}");
        }
        assert_eq!(file("/data", "dump.rdb").unwrap(), Path::new("/data/dump.rdb"));
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_empty_and_a_folder_elsewhere_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dump.rdb");
        assert_eq!(size(&file).unwrap(), 0);
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(size(&file).unwrap(), 5);
        assert!(size(folder.path()).is_err() && size(&folder.path().join("no/dump.rdb")).is_err());
    }
}
