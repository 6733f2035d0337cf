//! The arithmetic of loans: rates by credit tier, payments, and the decision on an application. No I/O.

use serde::Serialize;

use super::{CreditTier, LoanStatus};

/// Percent a year that long terms cost more.
const LONG_TERM_SURCHARGE: f64 = 0.5;
/// Months above which a term is long.
const LONG_TERM: i32 = 60;

/// Lenders: name, percent a year on top of the tier's rate, months at most.
pub const LENDERS: [(&str, f64, i32); 4] = [
    ("Harbor Credit Union", 0.0, 72),
    ("First Meridian Bank", 0.4, 84),
    ("AutoLine Finance", 0.9, 96),
    ("Open Road Capital", 1.8, 120),
];

impl CreditTier {
    /// Percent a year of a loan of ordinary term.
    pub const fn rate(self) -> f64 {
        match self {
            CreditTier::Excellent => 4.9,
            CreditTier::Good => 6.9,
            CreditTier::Fair => 11.9,
            CreditTier::Poor => 17.9,
        }
    }

    /// The share of a year's income that a year's payments may take.
    const fn burden(self) -> f64 {
        match self {
            CreditTier::Excellent => 0.20,
            CreditTier::Good => 0.18,
            CreditTier::Fair => 0.15,
            CreditTier::Poor => 0.10,
        }
    }
}

/// What a loan costs. Dollars in whole cents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Terms {
    /// Percent a year.
    pub apr: f64,
    /// Each month.
    pub monthly_payment: f64,
    /// Above the amount of the loan.
    pub total_interest: f64,
    /// All payments.
    pub total_amount: f64,
}

impl Terms {
    /// Of `amount` dollars over `months`, at `surcharge` percent above the rate of the tier.
    pub fn new(amount: f64, months: i32, tier: CreditTier, surcharge: f64) -> Terms {
        let long = if months > LONG_TERM { LONG_TERM_SURCHARGE } else { 0.0 };
        let apr = ((tier.rate() + surcharge + long) * 1000.0).round() / 1000.0;
        let monthly_rate = apr / 1200.0;
        // Of an annuity.
        let exact = amount * monthly_rate / (1.0 - (1.0 + monthly_rate).powi(-months));
        let monthly_payment = cents(exact).max(0.01);
        let total_amount = cents(monthly_payment * f64::from(months));
        Terms { apr, monthly_payment, total_interest: cents(total_amount - amount).max(0.0), total_amount }
    }

    /// The decision on a loan with these terms, and its reason.
    pub fn decide(
        &self,
        tier: CreditTier,
        amount: f64,
        down_payment: f64,
        annual_income: Option<f64>,
    ) -> (LoanStatus, &'static str) {
        let Some(income) = annual_income else {
            return (LoanStatus::Pending, "the annual income is needed");
        };
        let yearly = 12.0 * self.monthly_payment;
        if yearly > income * tier.burden() {
            return (LoanStatus::Rejected, "the payments are too high for the income");
        }
        if tier == CreditTier::Excellent && down_payment >= 0.1 * amount {
            return (LoanStatus::Approved, "excellent credit and a tenth paid down");
        }
        (LoanStatus::PreApproved, "affordable; subject to proof of income")
    }
}

fn cents(dollars: f64) -> f64 {
    (dollars * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_payment_is_that_of_an_annuity() {
        // 20,000 at 6.9 % over 60 months: 395.08 a month by the annuity formula.
        let terms = Terms::new(20_000.0, 60, CreditTier::Good, 0.0);
        assert_eq!((terms.apr, terms.monthly_payment), (6.9, 395.08));
        assert_eq!((terms.total_amount, terms.total_interest), (23_704.8, 3_704.8));
        assert_eq!(Terms::new(20_000.0, 61, CreditTier::Good, 0.4).apr, 7.8);
    }

    #[test]
    fn decisions() {
        let decide =
            |tier, down, income| Terms::new(20_000.0, 60, tier, 0.0).decide(tier, 20_000.0, down, income).0;
        assert_eq!(decide(CreditTier::Good, 0.0, None), LoanStatus::Pending);
        assert_eq!(decide(CreditTier::Good, 0.0, Some(90_000.0)), LoanStatus::PreApproved);
        assert_eq!(decide(CreditTier::Good, 0.0, Some(20_000.0)), LoanStatus::Rejected);
        assert_eq!(decide(CreditTier::Excellent, 2_000.0, Some(90_000.0)), LoanStatus::Approved);
        assert_eq!(decide(CreditTier::Excellent, 1_999.0, Some(90_000.0)), LoanStatus::PreApproved);
        assert_eq!(decide(CreditTier::Poor, 2_000.0, Some(0.0)), LoanStatus::Rejected);
    }

    proptest! {
        #[test]
        fn worse_credit_and_longer_terms_cost_more(cents in 100_000_u32..=99_999_999, months in 6_i32..120) {
            let amount = f64::from(cents) / 100.0;
            let costs: Vec<_> =
                CreditTier::ALL.iter().map(|tier| Terms::new(amount, months, *tier, 0.0)).collect();
            prop_assert!(costs.iter().all(|terms| terms.total_interest > 0.0));
            prop_assert!(costs.is_sorted_by(|a, b| a.monthly_payment < b.monthly_payment));
            let longer = Terms::new(amount, months + 1, CreditTier::Good, 0.0);
            prop_assert!(longer.total_interest > costs[1].total_interest);
        }
    }
}
