//! Mail goes out through a hook: an HTTP service that gets template, address and values as JSON and does the rest.

use std::sync::Arc;

use axum::http::Uri;
use serde_json::Value;

use crate::external::{self, Api, PATIENCE};
use crate::metrics::Metrics;
use crate::outbound::{CallError, Http};

/// Why no mail went out.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Nobody delivers.
    #[error("no mail is sent without --mail-url")]
    NoHook,
    /// The hook did not take it.
    #[error("the mail hook: {0}")]
    Hook(#[from] CallError),
}

/// The hook's address is none.
#[derive(Debug, thiserror::Error)]
#[error("the mail hook must be http:// or https:// with a host")]
pub struct NotAnAddress;

/// Hands mail to the hook.
#[derive(Debug)]
pub struct Mail {
    api: Api,
    uri: Option<Uri>,
}

impl Mail {
    /// Hands mail to the hook at `url`, if there is one.
    ///
    /// # Errors
    /// If `url` cannot be called.
    pub fn new(url: Option<&str>, http: &Http, metrics: Arc<Metrics>) -> Result<Mail, NotAnAddress> {
        let uri = url.map(|url| external::address(url).ok_or(NotAnAddress)).transpose()?;
        Ok(Mail { api: Api::new("mail", http, PATIENCE, metrics), uri })
    }

    /// Hands one mail over.
    ///
    /// # Errors
    /// See [`MailError`].
    pub async fn send(&self, mail: &Value) -> Result<(), MailError> {
        let uri = self.uri.as_ref().ok_or(MailError::NoHook)?;
        Ok(self.api.call(&external::post(uri, mail), |_| Ok(())).await?)
    }
}
