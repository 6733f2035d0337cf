//! Statements on what an extension brings: found in whatever schema it is in, written for the version it has there,
//! which need not be the newest that the server offers.

use exporter_kit::collector::{BoxFuture, CollectError, Outcome};
use exposition::{Desc, Snapshot};

use crate::session::PgSession;

/// Statements on an extension's functions.
pub struct OfExtension {
    /// Name of the extension.
    pub name: &'static str,
    /// First version of it that has what the statements need.
    pub since: ExtensionVersion,
    /// Reads it.
    pub read: for<'a> fn(&'a PgSession, &'a Extension) -> BoxFuture<'a, Result<Snapshot, CollectError>>,
    /// What it may put on the page; for the documentation.
    pub families: &'static [&'static Desc],
}

/// Major and minor number of an extension.
pub type ExtensionVersion = (u32, u32);

/// An extension of the connected database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The schema it is in, quoted where that is needed.
    pub schema: String,
    /// Its version there.
    pub version: ExtensionVersion,
}

impl OfExtension {
    /// Runs the statements. Where the extension is, is asked once and remembered; a statement that fails asks again.
    pub(crate) async fn run(&self, session: &PgSession) -> Result<Snapshot, CollectError> {
        let known = match session.memory().extension(self.name) {
            Some(known) => known,
            None => self.find(session).await?,
        };
        match self.read(session, &known).await {
            Err(error) if error.outcome == Outcome::Error => {
                let found = self.find(session).await?;
                if found == known {
                    return Err(error);
                }
                self.read(session, &found).await
            }
            result => result,
        }
    }

    async fn read(&self, session: &PgSession, extension: &Extension) -> Result<Snapshot, CollectError> {
        if extension.version < self.since {
            let ((major, minor), (needs_major, needs_minor)) = (extension.version, self.since);
            let name = self.name;
            let message = format!(
                "extension {name} has version {major}.{minor}, {needs_major}.{needs_minor} is needed: \
                 ALTER EXTENSION {name} UPDATE"
            );
            return Err(CollectError::new(Outcome::UnsupportedVersion, message));
        }
        (self.read)(session, extension).await
    }

    async fn find(&self, session: &PgSession) -> Result<Extension, CollectError> {
        session.memory().forget_extension(self.name);
        let sql = format!(
            "SELECT pg_catalog.quote_ident(n.nspname), e.extversion
             FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
             WHERE e.extname = '{}'",
            self.name
        );
        let rows = session.query(&sql, true).await?;
        let Some(row) = rows.first() else {
            let message = format!("extension {0} is not in this database: CREATE EXTENSION {0}", self.name);
            return Err(CollectError::new(Outcome::MissingExtension, message));
        };
        let extension = Extension {
            schema: row.get(0).unwrap_or_default().to_owned(),
            version: version(row.get(1).unwrap_or_default()),
        };
        session.memory().put_extension(self.name, extension.clone());
        Ok(extension)
    }
}

/// `(1, 10)` of `1.10`; what is no number counts as 0.
fn version(text: &str) -> ExtensionVersion {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions() {
        for (text, version) in
            [("1.10", (1, 10)), ("1.4", (1, 4)), ("2", (2, 0)), ("", (0, 0)), ("x.y", (0, 0))]
        {
            assert_eq!(super::version(text), version, "{text}");
        }
    }
}
