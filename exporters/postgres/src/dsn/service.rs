//! The connection service file: INI sections of keywords, chosen by `service=` or `PGSERVICE`.
//! Looked up in `PGSERVICEFILE`, else `~/.pg_service.conf`, then `PGSYSCONFDIR/pg_service.conf`.

use super::{DsnError, Environment, Params};
use std::path::PathBuf;

/// Debian's and upstream's system-wide folders, used when `PGSYSCONFDIR` is unset.
const SYSTEM_DIRS: [&str; 2] = ["/etc/postgresql-common", "/usr/local/pgsql/etc"];

/// Fills what is still unset from the named service, if one is named.
pub(super) fn complete(params: &mut Params, environment: &Environment) -> Result<(), DsnError> {
    let service = params.remove("service").filter(|name| !name.is_empty());
    let Some(service) = service.or_else(|| environment.var("PGSERVICE").map(str::to_owned)) else {
        return Ok(());
    };
    for file in candidates(environment) {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(DsnError::new(format!("cannot read service file {}: {error}", file.display())));
            }
        };
        let found = section(&text, &service)
            .map_err(|error| DsnError::new(format!("service file {}: {error}", file.display())))?;
        if let Some(found) = found {
            for (name, value) in found {
                params.entry(name).or_insert(value);
            }
            return Ok(());
        }
    }
    Err(DsnError::new(format!(
        "service {service:?} is not defined in any service file; set PGSERVICEFILE or write ~/.pg_service.conf"
    )))
}

fn candidates(environment: &Environment) -> Vec<PathBuf> {
    let user = environment
        .var("PGSERVICEFILE")
        .map(PathBuf::from)
        .or_else(|| environment.home().map(|home| home.join(".pg_service.conf")));
    let system = match environment.var("PGSYSCONFDIR") {
        Some(dir) => vec![PathBuf::from(dir)],
        None => SYSTEM_DIRS.iter().map(PathBuf::from).collect(),
    };
    user.into_iter().chain(system.into_iter().map(|dir| dir.join("pg_service.conf"))).collect()
}

/// The keywords of one section; `None` if there is no such section. The first of two equal keywords wins, as in libpq.
fn section(text: &str, service: &str) -> Result<Option<Params>, DsnError> {
    let mut found: Option<Params> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if name.strip_suffix(']') == Some(service) {
                found = Some(Params::new());
            }
        } else if let Some(params) = &mut found {
            let Some((name, value)) = line.split_once('=') else {
                return Err(DsnError::new(format!("line {} is not keyword=value", index + 1)));
            };
            if name == "service" {
                return Err(DsnError::new(format!(
                    "line {}: a service cannot name another service",
                    index + 1
                )));
            }
            params.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_the_named_section() {
        let text = "# shops\n[other]\nhost=x\n\n[shop]\nhost=db1\n port=6000\nhost=late\n[more]\nuser=z\n";
        let params = section(text, "shop").unwrap().unwrap();
        assert_eq!(
            params.into_iter().collect::<Vec<_>>(),
            [("host".to_owned(), "db1".to_owned()), ("port".to_owned(), "6000".to_owned())]
        );
        assert_eq!(section(text, "none").unwrap(), None);
        assert!(section("[a]\nnonsense", "a").unwrap_err().to_string().contains("line 2"));
        assert!(section("[a]\nservice=b", "a").is_err());
    }
}
