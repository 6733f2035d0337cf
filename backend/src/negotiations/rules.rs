//! The embedded negotiator: how the dealer gives way, and what the agent advises. No I/O, no memory.

use super::dealer::{Answer, Position};

/// The share of the asking price below which the dealer never goes.
const FLOOR: f64 = 0.88;
/// The share of the way to its goal that the dealer goes in one round.
const STEP: f64 = 0.35;
/// A gap of this share of the asking price is not worth another round.
const CLOSE: f64 = 0.01;

/// The range in which the dealer's next offer must be: not below the user's own offer or the dealer's floor, and not
/// above what the dealer offered before.
pub fn bounds(position: &Position) -> (f64, f64) {
    let highest = position.dealer_offer.unwrap_or(position.asking_price);
    let lowest = position.user_offer.max(cents(position.asking_price * FLOOR)).min(highest);
    (lowest, highest)
}

/// The dealer's answer to the user's offer.
pub fn answer(position: &Position) -> Answer {
    let (lowest, highest) = bounds(position);
    let gap = highest - lowest;
    // In the last round, or close by, the dealer goes all the way.
    let all = gap <= position.asking_price * CLOSE || position.round >= position.max_rounds;
    let offer = if all { lowest } else { cents(highest - gap * STEP).clamp(lowest, highest) };
    let message = if offer <= position.user_offer {
        format!("{offer:.2} dollars it is. You have a deal if you take it.")
    } else if all {
        format!("{offer:.2} dollars is my last word.")
    } else {
        format!("I cannot go that low, but I can offer {offer:.2} dollars.")
    };
    Answer { offer, message, advice: advice(position, offer) }
}

fn advice(position: &Position, offer: f64) -> String {
    if offer <= position.target_price {
        return format!("Accept: {offer:.2} dollars is within your target.");
    }
    if position.round >= position.max_rounds {
        return format!("The last round is over: accept {offer:.2} dollars or walk away.");
    }
    let next = cents(position.user_offer.max(position.target_price.min((position.user_offer + offer) / 2.0)));
    format!("Your target is {:.2} dollars. Offer {next:.2} next.", position.target_price)
}

/// What the agent says to a question between two offers.
pub fn chat(position: &Position) -> String {
    let offer = position.dealer_offer.unwrap_or(position.asking_price);
    format!(
        "The dealer asked {:.2} dollars and now offers {offer:.2}; you offered {:.2}. {}",
        position.asking_price,
        position.user_offer,
        advice(position, offer)
    )
}

/// Whole cents.
pub fn cents(dollars: f64) -> f64 {
    (dollars * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position(asking: u32, offer: u32, round: i32) -> Position {
        let user_offer = f64::from(offer) / 100.0;
        Position {
            vehicle: "2021 Honda Accord".to_owned(),
            asking_price: f64::from(asking) / 100.0,
            target_price: user_offer,
            user_offer,
            dealer_offer: None,
            round,
            max_rounds: 10,
        }
    }

    #[test]
    fn the_dealer_gives_way_step_by_step_and_never_below_the_floor() {
        let mut position = position(2_000_000, 1_500_000, 1);
        let mut offers = Vec::new();
        for round in 1..=10 {
            position.round = round;
            let answer = answer(&position);
            position.dealer_offer = Some(answer.offer);
            offers.push(answer.offer);
        }
        assert_eq!(offers[0], 19_160.0);
        assert!(offers.is_sorted_by(|a, b| a >= b), "{offers:?}");
        assert_eq!(offers[9], 17_600.0);
    }

    proptest! {
        #[test]
        fn offers_stay_in_bounds(asking in 10_000_u32..=999_999_999, offer in 1_u32..=999_999_999, round in 1_i32..=10) {
            let mut position = position(asking, offer, round);
            for _ in 0..4 {
                let (lowest, highest) = bounds(&position);
                prop_assert!(lowest <= highest);
                let answer = answer(&position);
                prop_assert!((lowest..=highest).contains(&answer.offer), "{} {answer:?}", lowest);
                prop_assert!(answer.offer > 0.0 && answer.offer <= position.asking_price);
                position.dealer_offer = Some(answer.offer);
            }
        }

        #[test]
        fn who_pays_the_price_gets_it(asking in 10_000_u32..=999_999_999, over in 0_u32..10_000) {
            let position = position(asking, asking + over, 1);
            prop_assert_eq!(answer(&position).offer, position.asking_price);
        }
    }
}
