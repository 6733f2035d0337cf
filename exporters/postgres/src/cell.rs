//! One result cell as text to a number. Timestamps and intervals are not parsed: SQL casts them
//! (`extract(epoch from …)`), since their text depends on the session's DateStyle and IntervalStyle.

/// Any number PostgreSQL prints: integers, float8 with `NaN` and `Infinity`, numeric of any size (rounded to the
/// nearest `f64`; beyond its range it is infinite), a boolean as 1/0, pg_lsn `X/Y` as bytes.
/// `None` for any other text.
pub fn float(text: &str) -> Option<f64> {
    // Most are short and whole.
    if let Some(whole) = digits(text) {
        return Some(whole);
    }
    let first = *text.as_bytes().first()?;
    if first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.' | b'N' | b'I') {
        // Rust's spelling of the specials is wider ("inf", "nan"); PostgreSQL prints only these.
        return text.parse().ok().or_else(|| lsn(text));
    }
    bool(text).map(|value| if value { 1.0 } else { 0.0 }).or_else(|| lsn(text))
}

/// A text of digits that a float holds exactly.
fn digits(text: &str) -> Option<f64> {
    const EXACT: usize = 15;
    if text.is_empty() || text.len() > EXACT {
        return None;
    }
    let mut whole: u64 = 0;
    for byte in text.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        whole = whole * 10 + u64::from(byte - b'0');
    }
    #[expect(clippy::cast_precision_loss, reason = "below 10^15")]
    Some(whole as f64)
}

/// A boolean: `t` or `f`, or `true` or `false` as its cast to text gives.
pub fn bool(text: &str) -> Option<bool> {
    match text {
        "t" | "true" => Some(true),
        "f" | "false" => Some(false),
        _ => None,
    }
}

/// A 64-bit integer, exact.
pub fn int(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// A pg_lsn (`16/B374D848`) as a byte position.
pub fn lsn(text: &str) -> Option<f64> {
    let (high, low) = text.split_once('/')?;
    let part = |text: &str| {
        let hex = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u32::from_str_radix(text, 16).ok()).flatten()
    };
    Some(f64::from(part(high)?) * 4_294_967_296.0 + f64::from(part(low)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_postgres_prints() {
        for (text, value) in [
            ("0", 0.0),
            ("-42", -42.0),
            ("9223372036854775807", 9.223_372_036_854_776e18),
            ("1e-30", 1e-30),
            ("0.1", 0.1),
            ("-Infinity", f64::NEG_INFINITY),
            ("Infinity", f64::INFINITY),
            ("t", 1.0),
            ("f", 0.0),
            ("16/B374D848", 97_500_059_720.0),
            ("0/0", 0.0),
            ("F/1", 64_424_509_441.0),
            ("123456789012345678901234567890.123", 1.234_567_890_123_456_8e29),
        ] {
            assert_eq!(float(text), Some(value), "{text}");
        }
        assert!(float("NaN").unwrap().is_nan());
        assert_eq!(float(&"9".repeat(400)), Some(f64::INFINITY));
        for text in ["", " 1", "inf", "nan", "1/", "/1", "1/+2", "1/123456789", "2024-01-01", "01:00:00", "é"]
        {
            assert_eq!(float(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = float(&text);
        }

        #[test]
        fn floats_survive(value in any::<f64>().prop_filter("printed differently", |v| v.is_finite())) {
            prop_assert_eq!(float(&value.to_string()), Some(value));
            prop_assert_eq!(float(&format!("{value:e}")), Some(value));
        }

        #[test]
        fn integers_are_the_nearest_float(value: i64) {
            prop_assert_eq!(float(&value.to_string()), Some(value as f64));
            prop_assert_eq!(int(&value.to_string()), Some(value));
        }

        #[test]
        fn lsn_is_the_position(position in 0..(1_u64 << 53)) {
            prop_assert_eq!(lsn(&format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff)), Some(position as f64));
        }
    }
}
