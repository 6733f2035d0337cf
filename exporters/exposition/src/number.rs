//! Sample values as text: the shortest form that reads back as the same float.

/// Below this, a whole number is written without exponent or fraction.
const WHOLE: f64 = 9e15;

/// Appends `value` as both formats write a sample value.
pub(crate) fn push(out: &mut String, value: f64) {
    if value.fract() == 0.0 && value.abs() < WHOLE && !(value == 0.0 && value.is_sign_negative()) {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 9e15")]
        out.push_str(itoa::Buffer::new().format(value as i64));
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
