//! Evaluations: is a deal a good one? Five steps: what condition the vehicle is in and how it is paid are asked, price
//! and risk are worked out, and the last one sums up.

pub mod handlers;
pub mod store;
pub mod verdict;

use crate::labels::label_enum;

label_enum! {
    /// Where an evaluation stands; the database's enum `evaluationstatus`.
    EvaluationStatus {
        /// Being worked out.
        Analyzing = "analyzing",
        /// Something is asked.
        AwaitingInput = "awaiting_input",
        /// All steps are done.
        Completed = "completed",
    }
}

label_enum! {
    /// The steps, in order; the database's enum `pipelinestep`.
    Step {
        /// Asked: the vehicle's condition.
        VehicleCondition = "vehicle_condition",
        /// Worked out: the price against the market.
        Price = "price",
        /// Asked: how it is paid.
        Financing = "financing",
        /// Worked out: what may go wrong.
        Risk = "risk",
        /// Summed up.
        Final = "final",
    }
}

label_enum! {
    /// What the user should do.
    Recommendation {
        /// Take it.
        Buy = "buy",
        /// Ask for a better price.
        Negotiate = "negotiate",
        /// Leave it.
        Avoid = "avoid",
    }
}
