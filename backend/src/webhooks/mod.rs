//! Webhooks: who wants to hear of which vehicles, and telling them. An alert is a row before it is a request, so that
//! nothing is lost by a restart, and any number of instances share the work.

pub mod delivery;
pub mod handlers;
pub mod store;

use std::time::Duration;

use crate::labels::label_enum;

label_enum! {
    /// Where a subscription stands; the database's enum `webhookstatus`.
    WebhookStatus {
        /// Gets alerts.
        Active = "active",
        /// Switched off by its owner.
        Inactive = "inactive",
        /// Switched off after too many failures in a row.
        Failed = "failed",
    }
}

label_enum! {
    /// Where an alert stands; the database's enum `deliverystatus`.
    DeliveryStatus {
        /// To be sent, for the first time or again.
        Pending = "pending",
        /// Taken by the endpoint.
        Delivered = "delivered",
        /// Given up.
        Failed = "failed",
    }
}

/// How alerts are delivered.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Pause before the second try; doubled before each further one.
    pub pause: Duration,
    /// Tries of one alert.
    pub tries: i32,
    /// Failures in a row after which a subscription is switched off.
    pub patience: i32,
    /// How long an endpoint may take.
    pub timeout: Duration,
    /// How often due alerts are looked for, beside those of this instance.
    pub poll: Duration,
    /// Whether endpoints may be in private networks.
    pub private: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            pause: Duration::from_secs(30),
            tries: 8,
            patience: 20,
            timeout: Duration::from_secs(10),
            poll: Duration::from_secs(5),
            private: false,
        }
    }
}
