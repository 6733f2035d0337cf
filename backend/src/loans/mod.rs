//! Loans: what one costs, which are on offer, and applications for one.

pub mod handlers;
pub mod store;
pub mod terms;

use crate::labels::label_enum;

label_enum! {
    /// Where an application stands; the database's enum `loanstatus`. From pending to one of the others.
    LoanStatus {
        /// Undecided: the annual income is not known.
        Pending = "pending",
        /// Affordable, subject to papers.
        PreApproved = "pre_approved",
        /// Granted.
        Approved = "approved",
        /// Not affordable.
        Rejected = "rejected",
    }
}

label_enum! {
    /// The database's enum `credittier`.
    CreditTier {
        /// 720 points and more.
        Excellent = "excellent",
        /// From 690.
        Good = "good",
        /// From 630.
        Fair = "fair",
        /// Below.
        Poor = "poor",
    }
}
