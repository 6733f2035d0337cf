//! Negotiations: a user and a simulated dealer exchange offers on a deal, in rounds; an agent advises the user.

pub mod dealer;
pub mod handlers;
pub mod rules;
pub mod store;

use crate::labels::label_enum;

label_enum! {
    /// Where a negotiation stands; the database's enum `negotiationstatus`. From active to one of the others.
    NegotiationStatus {
        /// Offers are exchanged.
        Active = "active",
        /// The user accepted an offer of the dealer.
        Completed = "completed",
        /// Given up.
        Cancelled = "cancelled",
    }
}

label_enum! {
    /// Who says something; the database's enum `messagerole`.
    Role {
        /// The user.
        User = "user",
        /// The user's adviser.
        Agent = "agent",
        /// The dealer.
        DealerSim = "dealer_sim",
    }
}
