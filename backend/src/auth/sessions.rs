//! Sessions: an opaque 256-bit token for the client, its SHA-256 with the user's id and a time to live in Redis.
//! Who reads Redis cannot log in with what is there, and a token can be revoked at any time.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::cache::{Cache, CacheError};
use crate::hex;

/// What a client shows to prove its session. Never logged, never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// A new one from the system's random generator.
    pub fn generate() -> Token {
        Token(rand::random())
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Token> {
        hex::decode(text).map(Token)
    }

    /// The text that the client gets, once.
    pub fn reveal(&self) -> String {
        hex::encode(&self.0)
    }

    /// The token itself, to be hashed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn hash(&self) -> String {
        hex::encode(&Sha256::digest(self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The session store.
#[derive(Clone, Debug)]
pub struct Sessions {
    cache: Cache,
    ttl: Duration,
}

impl Sessions {
    /// Sessions that end `ttl` after the login.
    pub fn new(cache: Cache, ttl: Duration) -> Sessions {
        Sessions { cache, ttl }
    }

    /// How long a session lasts.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Starts a session of `user`.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`].
    pub async fn start(&self, user: i64) -> Result<Token, CacheError> {
        let token = Token::generate();
        let hash = token.hash();
        let ttl = self.ttl.as_secs().max(1);
        let mut commands = redis::pipe();
        commands.atomic();
        commands.cmd("SET").arg(session_key(&hash)).arg(user).arg("EX").arg(ttl).ignore();
        // The list of a user's sessions lets all of them be revoked; it lives as long as the youngest.
        commands.cmd("SADD").arg(user_key(user)).arg(&hash).ignore();
        commands.cmd("EXPIRE").arg(user_key(user)).arg(ttl).ignore();
        let () = self.cache.run("starting a session", &commands).await?;
        Ok(token)
    }

    /// The user of a session, if it is still good.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`].
    pub async fn find(&self, token: &Token) -> Result<Option<i64>, CacheError> {
        let mut commands = redis::pipe();
        commands.cmd("GET").arg(session_key(&token.hash()));
        let (user,) = self.cache.run("finding a session", &commands).await?;
        Ok(user)
    }

    /// Ends one session of `user`.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`].
    pub async fn end(&self, user: i64, token: &Token) -> Result<(), CacheError> {
        let hash = token.hash();
        let mut commands = redis::pipe();
        commands.atomic();
        commands.cmd("DEL").arg(session_key(&hash)).ignore();
        commands.cmd("SREM").arg(user_key(user)).arg(&hash).ignore();
        self.cache.run("ending a session", &commands).await
    }

    /// Ends all sessions of `user`.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`].
    pub async fn end_all(&self, user: i64) -> Result<(), CacheError> {
        let mut list = redis::pipe();
        list.cmd("SMEMBERS").arg(user_key(user));
        let (hashes,): (Vec<String>,) = self.cache.run("listing sessions", &list).await?;
        let keys = hashes.iter().map(|hash| session_key(hash)).chain([user_key(user)]);
        let mut delete = redis::pipe();
        delete.cmd("DEL").arg(keys.collect::<Vec<_>>()).ignore();
        self.cache.run("ending sessions", &delete).await
    }
}

fn session_key(hash: &str) -> String {
    format!("session:{hash}")
}

fn user_key(user: i64) -> String {
    format!("user-sessions:{user}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_not_printed() {
        let token = Token::generate();
        assert_eq!(Token::parse(&token.reveal()), Some(token.clone()));
        assert_ne!(Token::generate(), token);
        assert!(!format!("{token:?}").contains(&token.reveal()));
        assert!(!token.hash().contains(&token.reveal()));
    }
}
