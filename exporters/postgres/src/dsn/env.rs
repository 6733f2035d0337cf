//! The environment as a value: variables, the operating system's user, its home. Tests pass their own.

use super::{Params, table};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Environment variables and the operating system's user. The default is empty.
#[derive(Clone, Default)]
pub struct Environment {
    vars: HashMap<String, String>,
    os_user: Option<String>,
    home: Option<PathBuf>,
}

impl Environment {
    /// An environment of the given variables only. The user is `USER`, the home `HOME`.
    pub fn new<K: Into<String>, V: Into<String>>(vars: impl IntoIterator<Item = (K, V)>) -> Environment {
        let vars: HashMap<String, String> = vars.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        Environment {
            os_user: vars.get("USER").filter(|user| !user.is_empty()).cloned(),
            home: vars.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from),
            vars,
        }
    }

    /// This process's variables (those that are UTF-8); user and home by its uid in `/etc/passwd`, as libpq does.
    pub fn of_process() -> Environment {
        let vars =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let mut environment = Environment::new(vars);
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let uid = std::fs::metadata("/proc/self").map(|meta| meta.uid().to_string());
        let entry = uid.ok().and_then(|uid| {
            passwd
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>())
                .find(|e| e.len() > 5 && e[2] == uid)
        });
        if let Some(entry) = entry {
            environment.os_user = Some(entry[0].to_owned());
            environment.home.get_or_insert_with(|| PathBuf::from(entry[5]));
        }
        environment
    }

    /// The value of a variable that is set and not empty.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn os_user(&self) -> Option<String> {
        self.os_user.clone()
    }

    pub(super) fn home(&self) -> Option<PathBuf> {
        self.home.clone()
    }
}

/// Fills what is still unset from `PG*` variables.
pub(super) fn complete(params: &mut Params, environment: &Environment) {
    for keyword in table::KEYWORDS {
        if let Some(value) = keyword.env.and_then(|name| environment.var(name)) {
            params.entry(keyword.name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
}
