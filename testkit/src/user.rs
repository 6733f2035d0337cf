//! The unprivileged account that servers run as when we are root: PostgreSQL refuses to run as root, and no
//! test server needs it. Everybody else runs servers as themselves.

use std::{fs, io, os::unix::fs::chown, path::Path};

use nix::unistd::{Uid, User};

/// Used when there is no user `postgres`: `nobody` on Debian.
const FALLBACK: (u32, u32) = (65534, 65534);

/// Numeric user and group that a server is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Account {
    /// The account to drop to; `None` when we are not root and stay who we are.
    #[must_use]
    pub fn unprivileged() -> Option<Self> {
        if !Uid::effective().is_root() {
            return None;
        }
        let (uid, gid) = match User::from_name("postgres") {
            Ok(Some(user)) if !user.uid.is_root() => (user.uid.as_raw(), user.gid.as_raw()),
            _ => FALLBACK,
        };
        Some(Self { uid, gid })
    }

    /// Arguments of util-linux' `setpriv` that change to this account.
    pub(crate) fn setpriv_args(self) -> [String; 3] {
        [format!("--reuid={}", self.uid), format!("--regid={}", self.gid), "--clear-groups".to_owned()]
    }
}

/// Gives `path` to the account that servers run as. Does nothing when we are not root.
///
/// # Errors
/// When the owner cannot be changed.
pub fn give(path: &Path) -> io::Result<()> {
    match Account::unprivileged() {
        Some(account) => chown(path, Some(account.uid), Some(account.gid)),
        None => Ok(()),
    }
}

/// Makes the folder `path` if it is missing and gives it to the account that servers run as.
///
/// # Errors
/// When it cannot be made or given.
pub fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    give(path)
}

/// Whether every folder above and including `path` lets everybody pass, so that another account reaches it.
#[must_use]
pub fn traversable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.ancestors()
        .filter_map(|folder| fs::metadata(folder).ok())
        .all(|metadata| metadata.permissions().mode() & 0o001 != 0)
}
