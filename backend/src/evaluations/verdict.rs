//! The judgement of each step, from 0 (bad) to 100 (good). No I/O.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Recommendation;
use crate::loans::CreditTier;
use crate::loans::terms::Terms;
use crate::market::Estimate;

/// Miles a year that are ordinary.
const MILES_A_YEAR: f64 = 12_000.0;

/// What is known of the vehicle's condition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VehicleConditionAnswers)]
pub struct Condition {
    /// Accidents.
    #[schema(minimum = 0, maximum = 20)]
    pub accidents: i32,
    /// Owners so far.
    #[schema(minimum = 0, maximum = 20)]
    pub owners: i32,
    /// Whether its services are on record.
    pub service_records: bool,
}

/// How it is to be paid. Dollars.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Financing {
    /// The income of a year.
    #[schema(minimum = 0, maximum = 9_999_999.99)]
    pub annual_income: f64,
    /// What is paid at once.
    #[schema(minimum = 0, maximum = 9_999_999.99)]
    pub down_payment: f64,
    /// Months of the loan for the rest.
    #[schema(minimum = 6, maximum = 120)]
    pub loan_term_months: i32,
    /// The buyer's credit.
    pub credit_score_range: CreditTier,
}

/// One judgement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Judgement {
    /// From 0 (bad) to 100 (good).
    pub score: f64,
    /// Why.
    pub reason: String,
}

impl Judgement {
    fn new(score: f64, reason: String) -> Judgement {
        Judgement { score: (score.clamp(0.0, 100.0) * 10.0).round() / 10.0, reason }
    }
}

/// The vehicle's condition.
pub fn condition(condition: &Condition) -> Judgement {
    let Condition { accidents, owners, service_records } = *condition;
    let spared = if service_records { 0.0 } else { 15.0 };
    let score = 100.0 - 25.0 * f64::from(accidents) - 5.0 * f64::from((owners - 1).max(0)) - spared;
    let records = if service_records { "services on record" } else { "no record of services" };
    Judgement::new(score, format!("{accidents} accidents, {owners} owners, {records}"))
}

/// The price against what such vehicles cost.
pub fn price(price: f64, market: &Estimate) -> Judgement {
    let Some(average) = market.average_price else {
        return Judgement::new(50.0, "no such vehicle is offered to compare with".to_owned());
    };
    let percent = (price / average - 1.0) * 100.0;
    let side = if percent < 0.0 { "below" } else { "above" };
    let reason = format!("{:.1} % {side} the average of {average:.2} dollars", percent.abs());
    Judgement::new(70.0 - 3.0 * percent, reason)
}

/// What the payments mean for the buyer.
pub fn financing(price: f64, financing: &Financing) -> Judgement {
    let Financing { annual_income, down_payment, loan_term_months, credit_score_range } = *financing;
    let rest = price - down_payment;
    if rest < 1.0 {
        return Judgement::new(100.0, "paid at once".to_owned());
    }
    let terms = Terms::new(rest, loan_term_months, credit_score_range, 0.0);
    let yearly = 12.0 * terms.monthly_payment;
    let share = yearly / annual_income.max(1.0) * 100.0;
    let reason =
        format!("{:.2} dollars a month, {:.0} % of the income", terms.monthly_payment, share.min(999.0));
    Judgement::new(110.0 - 3.0 * share, reason)
}

/// What age and mileage may bring.
pub fn risk(year: i32, this_year: i32, mileage: i32, condition: &Judgement) -> Judgement {
    // The next model year is on sale before the year begins.
    let age = f64::from((this_year - year).max(0));
    let expected = (age + 1.0) * MILES_A_YEAR;
    let driven = f64::from(mileage) / expected;
    let score = 100.0 - 4.0 * age - 30.0 * (driven - 1.0).max(0.0) - 0.2 * (100.0 - condition.score);
    Judgement::new(score, format!("{age:.0} years old, {:.0} % of an ordinary mileage", driven * 100.0))
}

/// The sum of all, and what to do.
pub fn total(
    condition: &Judgement,
    price: &Judgement,
    financing: &Judgement,
    risk: &Judgement,
) -> (f64, Recommendation) {
    let score = 0.25 * condition.score + 0.35 * price.score + 0.2 * financing.score + 0.2 * risk.score;
    let worst = condition.score.min(financing.score).min(risk.score);
    let recommendation = if score < 40.0 || worst < 15.0 {
        Recommendation::Avoid
    } else if score < 65.0 || price.score < 55.0 {
        Recommendation::Negotiate
    } else {
        Recommendation::Buy
    };
    ((score * 10.0).round() / 10.0, recommendation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::PriceSource;
    use proptest::prelude::*;

    const GOOD: Condition = Condition { accidents: 0, owners: 1, service_records: true };

    fn market(average: f64) -> Estimate {
        Estimate { average_price: Some(average), listings: 10, source: PriceSource::Catalogue }
    }

    fn money(income: f64) -> Financing {
        Financing {
            annual_income: income,
            down_payment: 5_000.0,
            loan_term_months: 60,
            credit_score_range: CreditTier::Good,
        }
    }

    fn judged(asked: f64, answers: Condition, income: f64) -> Recommendation {
        let condition = condition(&answers);
        let risk = risk(2021, 2025, 48_000, &condition);
        total(&condition, &price(asked, &market(20_000.0)), &financing(asked, &money(income)), &risk).1
    }

    #[test]
    fn good_deals_are_bought_and_bad_ones_are_not() {
        assert_eq!(judged(19_000.0, GOOD, 90_000.0), Recommendation::Buy);
        assert_eq!(judged(22_000.0, GOOD, 90_000.0), Recommendation::Negotiate);
        assert_eq!(judged(19_000.0, GOOD, 9_000.0), Recommendation::Avoid);
        let wreck = Condition { accidents: 4, owners: 5, service_records: false };
        assert_eq!(judged(19_000.0, wreck, 90_000.0), Recommendation::Avoid);
    }

    #[test]
    fn the_price_is_compared_with_the_market() {
        assert_eq!(price(20_000.0, &market(20_000.0)).score, 70.0);
        assert_eq!(price(18_000.0, &market(20_000.0)).score, 100.0);
        assert_eq!(price(40_000.0, &market(20_000.0)).score, 0.0);
        let unknown = Estimate { average_price: None, listings: 0, source: PriceSource::Catalogue };
        assert_eq!(price(40_000.0, &unknown).score, 50.0);
    }

    proptest! {
        #[test]
        fn scores_stay_in_range(asked in 1_u32..=9_999_999, accidents in 0..=20, owners in 0..=20,
            service_records: bool, income in 0_u32..=9_999_999, year in 1900..=2100, mileage in 0..=2_000_000) {
            let asked = f64::from(asked);
            let condition = condition(&Condition { accidents, owners, service_records });
            let price = price(asked, &market(20_000.0));
            let financing = financing(asked, &money(f64::from(income)));
            let risk = risk(year, 2025, mileage, &condition);
            let (score, _) = total(&condition, &price, &financing, &risk);
            for score in [condition.score, price.score, financing.score, risk.score, score] {
                prop_assert!((0.0..=100.0).contains(&score), "{}", score);
            }
        }
    }
}
