//! How many logins may fail and how many password resets may be asked for, by account and by address, counted in Redis.
//! Every attempt takes one from both; a good login gives it back, so that attempts at the same time cannot pass the limit together.

use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::cache::{Cache, CacheError};
use crate::hex;

/// What is allowed within a window.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Failures for one account, from anywhere.
    pub account: u32,
    /// Failures from one address, for any account.
    pub address: u32,
    /// From the first failure on.
    pub window: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { account: 10, address: 300, window: Duration::from_secs(300) }
    }
}

/// Counts attempts of one kind.
#[derive(Clone, Debug)]
pub struct Guard {
    cache: Cache,
    kind: &'static str,
    limits: Limits,
}

/// An attempt that is allowed.
#[derive(Debug)]
pub struct Attempt {
    keys: [String; 2],
}

impl Guard {
    /// Counts in `cache`, under keys that begin with `kind`.
    pub fn new(cache: Cache, kind: &'static str, limits: Limits) -> Guard {
        Guard { cache, kind, limits }
    }

    /// Takes an attempt on the account of `email` from `address`, or answers how many seconds to wait.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`].
    pub async fn take(
        &self,
        email: &str,
        address: Option<IpAddr>,
    ) -> Result<Result<Attempt, u64>, CacheError> {
        // Redis learns no e-mail address. IPv6 clients own a whole /64.
        let account = hex::encode(&Sha256::digest(email.as_bytes()));
        let network = match address {
            Some(IpAddr::V6(v6)) => {
                IpAddr::from((u128::from(v6) & (u128::MAX << 64)).to_be_bytes()).to_string()
            }
            Some(v4) => v4.to_string(),
            None => "local".to_owned(),
        };
        let keys = [format!("{}:account:{account}", self.kind), format!("{}:address:{network}", self.kind)];
        let mut commands = redis::pipe();
        commands.atomic();
        for key in &keys {
            let window = self.limits.window.as_secs().max(1);
            commands.cmd("SET").arg(key).arg(0).arg("NX").arg("EX").arg(window).ignore();
            commands.cmd("INCR").arg(key);
            commands.cmd("TTL").arg(key);
        }
        let (account, account_wait, address, address_wait): (u32, i64, u32, i64) =
            self.cache.run("counting attempts", &commands).await?;
        let over =
            [(account > self.limits.account, account_wait), (address > self.limits.address, address_wait)];
        let wait = over.into_iter().filter(|(over, _)| *over).map(|(_, wait)| wait).max();
        Ok(match wait {
            Some(wait) => Err(u64::try_from(wait).unwrap_or(0).max(1)),
            None => Ok(Attempt { keys }),
        })
    }

    /// Gives a successful attempt back.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`].
    pub async fn succeeded(&self, attempt: &Attempt) -> Result<(), CacheError> {
        let [account, address] = &attempt.keys;
        let mut commands = redis::pipe();
        commands.atomic();
        commands.cmd("DEL").arg(account).ignore();
        // DECR would create a key without an end if the window ended meanwhile.
        commands
            .cmd("EVAL")
            .arg("if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DECR', KEYS[1]) end")
            .arg(1);
        commands.arg(address).ignore();
        self.cache.run("counting attempts", &commands).await
    }
}
