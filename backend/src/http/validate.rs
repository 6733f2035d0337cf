//! Checks of single fields, collected so that a client learns of all refused fields at once.

use std::fmt::Display;

use super::problem::{FieldError, Problem};

/// The highest price that is accepted, in dollars; fits the database's numeric(12,2).
pub const MAX_PRICE: f64 = 9_999_999.99;

/// Pattern of a vehicle identification number in any case.
pub const VIN: &str = "^[A-HJ-NPR-Za-hj-npr-z0-9]{17}$";

/// Collects what is wrong with a request.
#[derive(Debug, Default)]
pub struct Checks {
    errors: Vec<FieldError>,
}

impl Checks {
    /// Refuses `field` unless `fine`.
    pub fn require(&mut self, field: &str, fine: bool, message: impl Display) {
        if !fine {
            self.errors.push(FieldError { field: field.to_owned(), message: message.to_string() });
        }
    }

    /// A text of `min..=max` characters after trimming, without control characters.
    pub fn text(&mut self, field: &str, value: &str, min: usize, max: usize) -> String {
        let value = value.trim();
        let length = value.chars().count();
        self.require(
            field,
            (min..=max).contains(&length),
            format_args!("must have {min} to {max} characters"),
        );
        // Postgres cannot store NUL; other control characters have no place in a name. Line breaks are text.
        let printable = value.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
        self.require(field, printable, "must not contain control characters");
        value.to_owned()
    }

    /// A whole number within a range.
    pub fn range(&mut self, field: &str, value: i32, min: i32, max: i32) {
        self.require(field, (min..=max).contains(&value), format_args!("must be from {min} to {max}"));
    }

    /// An amount of dollars above 0, in whole cents.
    pub fn price(&mut self, field: &str, value: f64) {
        self.require(
            field,
            (0.01..=MAX_PRICE).contains(&value),
            format_args!("must be from 0.01 to {MAX_PRICE}"),
        );
        let cents = value * 100.0;
        self.require(
            field,
            (cents - cents.round()).abs() < 1e-6 * cents.abs().max(1.0),
            "must be whole cents",
        );
    }

    /// A vehicle identification number (ISO 3779): 17 letters or digits without I, O and Q.
    pub fn vin(&mut self, field: &str, value: &str) -> String {
        let value = value.trim().to_ascii_uppercase();
        let fine = value.len() == 17
            && value.bytes().all(|b| b.is_ascii_alphanumeric() && !matches!(b, b'I' | b'O' | b'Q'));
        self.require(field, fine, "must be 17 letters or digits without I, O and Q");
        value
    }

    /// An e-mail address in lower case: one `@` with something before it and a dotted name after it.
    pub fn email(&mut self, field: &str, value: &str) -> String {
        let value = value.trim().to_lowercase();
        let fine = value.len() <= 254
            && !value.chars().any(|c| c.is_whitespace() || c.is_control())
            && value.split_once('@').is_some_and(|(name, domain)| {
                !name.is_empty()
                    && !domain.contains('@')
                    && domain.contains('.')
                    && domain.split('.').all(|part| !part.is_empty())
            });
        self.require(field, fine, "must be an e-mail address of at most 254 bytes");
        value
    }

    /// `value` if nothing was refused.
    ///
    /// # Errors
    /// [`Problem::Invalid`] with every refused field.
    pub fn finish<T>(self, value: T) -> Result<T, Problem> {
        if self.errors.is_empty() { Ok(value) } else { Err(Problem::Invalid(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(check: impl FnOnce(&mut Checks)) -> bool {
        let mut checks = Checks::default();
        check(&mut checks);
        checks.finish(()).is_err()
    }

    #[test]
    fn prices() {
        for fine in [0.01, 0.07, 19_999.99, 123_456.78, MAX_PRICE] {
            assert!(!refused(|c| c.price("p", fine)), "{fine}");
        }
        for bad in [0.0, -1.0, 0.001, 1.005, 1e9, f64::NAN, f64::INFINITY] {
            assert!(refused(|c| c.price("p", bad)), "{bad}");
        }
    }

    #[test]
    fn emails() {
        for fine in ["a@b.c", "Someone.Else+tag@Example.COM"] {
            assert!(!refused(|c| drop(c.email("e", fine))), "{fine}");
        }
        for bad in ["", "a", "a@b", "@b.c", "a@@b.c", "a b@c.d", "a@b..c", "a@.c", "a\0@b.c"] {
            assert!(refused(|c| drop(c.email("e", bad))), "{bad}");
        }
    }

    #[test]
    fn vins() {
        assert!(!refused(|c| drop(c.vin("v", "1hgcm82633a004352"))));
        for bad in ["", "1HGCM82633A00435", "1HGCM82633A0043521", "IHGCM82633A004352", "1HGCM82633A00435é"] {
            assert!(refused(|c| drop(c.vin("v", bad))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_whole_cent_is_a_price(cents in 1_u32..=999_999_999) {
            prop_assert!(!refused(|c| c.price("p", f64::from(cents) / 100.0)));
        }

        #[test]
        fn accepted_text_can_be_stored(text in "\\PC{0,20}|.{0,20}") {
            let mut checks = Checks::default();
            let stored = checks.text("t", &text, 0, 20);
            if checks.finish(()).is_ok() {
                prop_assert!(!stored.contains('\0'));
            }
        }
    }
}
