//! Sample values as text: the shortest form that reads back as the same float.

/// Below this, a whole number is written without exponent or fraction.
const WHOLE: f64 = 9e15;

/// Appends `value` as both formats write a sample value.
#[inline]
pub(crate) fn push(out: &mut String, value: f64) {
    // Most are a digit.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what does not fit is found by the comparison"
    )]
    let digit = value as u8;
    // -0 is not 0 here.
    if digit < 10 && f64::from(digit).to_bits() == value.to_bits() {
        out.push(char::from(b'0' + digit));
    } else {
        push_any(out, value);
    }
}

fn push_any(out: &mut String, value: f64) {
    // A cast there and back is a few instructions; the fraction is a call where the processor may be an old one.
    #[expect(clippy::cast_possible_truncation, reason = "what does not fit is found by the comparison")]
    let whole = value as i64;
    #[expect(clippy::cast_precision_loss, reason = "below 9e15 nothing is lost")]
    let is_whole = whole as f64 == value && value.abs() < WHOLE;
    if is_whole && (whole != 0 || value.is_sign_positive()) {
        out.push_str(itoa::Buffer::new().format(whole));
    } else if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        out.push_str(zmij::Buffer::new().format_finite(value));
    }
}

/// Appends a bucket bound or a quantile in OpenMetrics' canonical form, which always has a fraction: `1.0`.
pub(crate) fn push_canonical(out: &mut String, value: f64) {
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        out.push_str(zmij::Buffer::new().format(value));
    }
}
