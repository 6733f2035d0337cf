//! Deals: a user's attempt to buy one vehicle.

pub mod handlers;
pub mod store;

use serde::{Deserialize, Serialize};

/// Where a deal stands; the labels of the database's enum `dealstatus`.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DealStatus {
    /// Noted, nothing has happened.
    Pending,
    /// Being negotiated or financed.
    InProgress,
    /// Bought. Final.
    Completed,
    /// Given up. Final.
    Cancelled,
}

impl DealStatus {
    /// All of them.
    pub const ALL: [DealStatus; 4] =
        [DealStatus::Pending, DealStatus::InProgress, DealStatus::Completed, DealStatus::Cancelled];

    /// The enum label.
    pub const fn as_str(self) -> &'static str {
        match self {
            DealStatus::Pending => "pending",
            DealStatus::InProgress => "in_progress",
            DealStatus::Completed => "completed",
            DealStatus::Cancelled => "cancelled",
        }
    }

    /// Whether a deal may begin with this status.
    pub const fn may_begin(self) -> bool {
        matches!(self, DealStatus::Pending | DealStatus::InProgress)
    }

    /// The statuses from which a deal may move to this one.
    pub const fn reached_from(self) -> &'static [DealStatus] {
        match self {
            DealStatus::Pending => &[],
            DealStatus::InProgress => &[DealStatus::Pending],
            DealStatus::Completed => &[DealStatus::InProgress],
            DealStatus::Cancelled => &[DealStatus::Pending, DealStatus::InProgress],
        }
    }

    /// Reads an enum label.
    pub fn parse(text: &str) -> Option<DealStatus> {
        DealStatus::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_agree_with_serde_and_are_read_back() {
        for status in DealStatus::ALL {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{}\"", status.as_str()));
            assert_eq!(DealStatus::parse(status.as_str()), Some(status));
        }
    }

    fn status() -> impl Strategy<Value = DealStatus> {
        (0..DealStatus::ALL.len()).prop_map(|index| DealStatus::ALL[index])
    }

    proptest! {
        /// Whatever is asked for in whatever order: final statuses are never left, and pending is never re-entered.
        #[test]
        fn walks_end_where_they_should(asked in proptest::collection::vec(status(), 0..20)) {
            let mut now = DealStatus::Pending;
            for next in asked {
                if next.reached_from().contains(&now) {
                    prop_assert!(now.may_begin());
                    prop_assert_ne!(next, DealStatus::Pending);
                    now = next;
                }
            }
        }
    }
}
