//! `cargo xtask secrets`: the files of secrets that docker-compose.yml mounts, random and made once.

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use testkit::servers::workspace_root;

use crate::progress::say;

/// Make the files of secrets that docker-compose.yml mounts
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the files [default: secrets, which git ignores]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Replace what is there; servers that were set up with the old passwords have to be told the new ones
    #[arg(long)]
    force: bool,
}

/// Stands for the random part.
const RANDOM: &str = "{}";

/// Every secret that is random, and what its file says.
const FILES: &[(&str, &str)] = &[
    ("postgres_password", "{}"),
    ("owner_database_url", "postgresql://autodealgenie:{}@postgres:5432/autodealgenie"),
    ("backend_database_url", "postgresql://backend:{}@postgres:5432/autodealgenie"),
    ("business_database_url", "postgresql://business:{}@postgres:5432/autodealgenie?sslmode=disable"),
    ("monitor_password", "{}"),
    ("backend_redis_url", "redis://backend:{}@redis:6379"),
    ("redis_exporter.json", r#"{"redis://exporter@redis:6379": "{}"}"#),
    ("grafana_password", "{}"),
    // Of the user `monitoring` when TLS and users are on.
    ("web_password", "{}"),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = match &args.dir {
        Some(folder) => folder.clone(),
        None => workspace_root()?.join("secrets"),
    };
    let made = make(&folder, args.force)?;
    say(&format!("{}: {made} files made, the others were there", folder.display()));
    Ok(())
}

/// Makes what is missing, or everything, and gives the number of files that were made.
pub(crate) fn make(folder: &Path, force: bool) -> Result<usize> {
    // A file in a container belongs to an account that this machine does not know, so it is readable to all; the folder keeps
    // the other users of this machine away from it.
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.with_context(|| format!("creating {}", folder.display()))?;
    let mut made = 0;
    for (name, text) in FILES {
        let text = text.replacen(RANDOM, &random(), 1) + "\n";
        made += usize::from(write(&folder.join(name), &text, force)?);
    }
    // These follow from the passwords, so that a password that was changed by hand is taken over.
    made += usize::from(follow(&folder.join("redis_users.acl"), &redis_users(folder)?)?);
    let password = read(&folder.join("web_password"))?;
    // Mounted as a folder, beside the certificates: what is changed in it is seen. Services have to get into it.
    let tls = folder.join("tls");
    let created = fs::DirBuilder::new().recursive(true).mode(0o755).create(&tls);
    created.with_context(|| format!("creating {}", tls.display()))?;
    let web = tls.join("web.yml");
    if !knows(&web, &password) {
        let hash = bcrypt::hash(&password, BCRYPT_COST).context("hashing the password of the web")?;
        made += usize::from(write(&web, &format!("{WEB}basic_auth_users:\n  monitoring: {hash}\n"), true)?);
    }
    Ok(made)
}

/// TLS of everything that tells or takes metrics, as exporter-toolkit reads it; docker/tls/certificates.sh makes the files.
const WEB: &str = "\
tls_server_config:
  cert_file: /etc/tls/server.crt
  key_file: /etc/tls/server.key
  client_auth_type: VerifyClientCertIfGiven
  client_ca_file: /etc/tls/ca.crt
  min_version: TLS12
http_server_config:
  headers:
    X-Content-Type-Options: nosniff
    X-Frame-Options: deny
";

/// What a login costs, once for each client: exporters remember who has logged in.
const BCRYPT_COST: u32 = 10;

/// Whether the file of users has the hash of this password.
fn knows(web: &Path, password: &str) -> bool {
    let text = fs::read_to_string(web).unwrap_or_default();
    let hash = text.strip_prefix(WEB).and_then(|users| users.trim().rsplit_once("monitoring: "));
    hash.is_some_and(|(_, hash)| bcrypt::verify(password, hash).unwrap_or(false))
}

/// docker/redis/users.acl with the hashes of the passwords.
fn redis_users(folder: &Path) -> Result<String> {
    let template = workspace_root()?.join("docker/redis/users.acl");
    let template =
        fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
    let url = read(&folder.join("backend_redis_url"))?;
    let backend =
        url.rsplit_once('@').and_then(|(user, _)| user.rsplit_once(':')).map(|(_, password)| password);
    let backend = backend.context("backend_redis_url has no password")?;
    let exporter: Map<String, Value> = serde_json::from_str(&read(&folder.join("redis_exporter.json"))?)
        .context("reading redis_exporter.json")?;
    let exporter = exporter.values().next().and_then(Value::as_str);
    let exporter = exporter.context("redis_exporter.json has no password")?;
    Ok(template.replace("#BACKEND", &hash(backend)).replace("#EXPORTER", &hash(exporter)))
}

/// A password as Redis' files of users have it.
fn hash(password: &str) -> String {
    let digest = Sha256::digest(password.as_bytes());
    digest.iter().fold("#".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// 192 random bits, in letters that no file or URL has to escape.
fn random() -> String {
    rand::random::<[u8; 24]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a file that follows from others, when it is another one.
fn follow(path: &Path, text: &str) -> Result<bool> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) { Ok(false) } else { write(path, text, true) }
}

/// Writes a file that nobody may write to; whether it did. A file that is there stays, unless by force.
fn write(path: &Path, text: &str, force: bool) -> Result<bool> {
    let context = || format!("writing {}", path.display());
    if force && path.exists() {
        fs::remove_file(path).with_context(context)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(context).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(context),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn texts(folder: &Path) -> Vec<(String, String)> {
        let entries =
            [folder.to_owned(), folder.join("tls")].map(|folder| fs::read_dir(folder).unwrap().flatten());
        let files = entries.into_iter().flatten().filter(|entry| entry.path().is_file());
        let mut texts: Vec<_> = files
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        texts.sort();
        texts
    }

    #[test]
    fn secrets_are_made_once_unless_by_force() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("secrets");
        assert_eq!(make(&folder, false).unwrap(), FILES.len() + 2);
        let first = texts(&folder);
        assert_eq!(make(&folder, false).unwrap(), 0);
        assert_eq!(texts(&folder), first);
        assert_eq!(make(&folder, true).unwrap(), FILES.len() + 2);
        for ((name, old), (_, new)) in first.iter().zip(texts(&folder)) {
            assert_ne!(*old, new, "{name}");
        }
    }

    #[test]
    fn nobody_else_gets_into_the_folder_and_nobody_may_write() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("secrets");
        make(&folder, false).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for (name, _) in texts(&folder).iter().filter(|(name, _)| name != "web.yml") {
            assert_eq!(mode(&folder.join(name)), 0o444, "{name}");
        }
        assert_eq!((mode(&folder.join("tls")), mode(&folder.join("tls/web.yml"))), (0o755, 0o444));
    }

    #[test]
    fn what_follows_from_a_password_follows_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path();
        make(folder, false).unwrap();
        for (name, text) in [
            ("backend_redis_url", "redis://backend:abc@redis:6379"),
            ("redis_exporter.json", r#"{"redis://redis:6379": "abc"}"#),
            ("web_password", "abc"),
        ] {
            write(&folder.join(name), text, true).unwrap();
        }
        assert_eq!(make(folder, false).unwrap(), 2);
        let users = read(&folder.join("redis_users.acl")).unwrap();
        // printf abc | sha256sum
        let hash = "#ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(users.contains(&format!("user backend on {hash} ")), "{users}");
        assert!(users.contains(&format!("user exporter on {hash} ")), "{users}");
        assert!(knows(&folder.join("tls/web.yml"), "abc"));
    }
}
