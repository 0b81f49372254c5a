//! Kubernetes' quantities: `250m`, `64Mi`, `1e3`.
//!
//! Source: k8s.io/apimachinery/pkg/api/resource, the grammar of Quantity.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Amounts by resource name, in thousandths of the resource's unit.
pub type Amounts = BTreeMap<String, i128>;

/// A quantity in thousandths, rounded up; none if it isn't one.
pub fn thousandths(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.as_str();
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = u32::try_from(fraction.len()).ok()?;

    let (times, over) = factor(suffix)?;
    let numerator = digits.checked_mul(times)?.checked_mul(1000)?;
    let denominator = over.checked_mul(10_i128.checked_pow(places)?)?;
    let rest = numerator.checked_rem(denominator)?;
    Some(numerator / denominator + i128::from(rest > 0))
}

/// What a suffix multiplies with and divides by.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

/// Adds `more` to `sum`. What can't be read counts as nothing: the API server has admitted it, so it can be read.
pub fn add<'a>(sum: &mut Amounts, more: impl IntoIterator<Item = (&'a String, &'a Quantity)>) {
    for (name, quantity) in more {
        *sum.entry(name.clone()).or_default() += thousandths(quantity).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let cases = [
            ("0", Some(0)),
            ("1", Some(1_000)),
            ("250m", Some(250)),
            ("1.5", Some(1_500)),
            ("64Mi", Some((64 << 20) * 1_000)),
            ("1e3", Some(1_000_000)),
            ("5E-1", Some(500)),
            ("2k", Some(2_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("1n", Some(1)),
            ("-1", Some(-1_000)),
            ("", None),
            ("1X", None),
            ("m", None),
        ];
        for (text, expected) in cases {
            assert_eq!(thousandths(&Quantity(text.into())), expected, "{text}");
        }
    }
}
