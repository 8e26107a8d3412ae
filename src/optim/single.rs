//! Settings as kernels see them.

/// A number in single precision, in which kernels compute; every setting that reaches them is judged as this one.
///
/// # Errors
/// What is wrong with it: not finite, or so small or large that kernels would compute with zero or infinity.
pub(crate) fn single(value: f64) -> Result<f32, String> {
    let seen = value as f32;
    if !value.is_finite() {
        Err("must be a finite number".to_owned())
    } else if value != 0.0 && !seen.is_normal() && seen.abs() < 1.0 {
        let least = f32::MIN_POSITIVE;
        Err(format!("is zero in single precision, in which kernels compute; the least number is {least:.2e}"))
    } else if !(seen * seen).is_finite() {
        let most = f32::MAX.sqrt();
        Err(format!("has no finite square in single precision, in which kernels compute; use at most {most:.1e}"))
    } else {
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_vanish_or_overflow_are_refused() {
        for (value, seen) in [(0.0, 0.0), (-0.0, -0.0), (0.1, 0.1), (1e-37, 1e-37), (1e19, 1e19), (0.99999999, 1.0)] {
            assert_eq!(single(value), Ok(seen));
        }
        for (value, word) in [
            (f64::NAN, "finite number"),
            (f64::NEG_INFINITY, "finite number"),
            (1e-39, "zero"),
            (-1e-50, "zero"),
            (1e-320, "zero"),
            (2e19, "square"),
            (-1e30, "square"),
            (1e308, "square"),
        ] {
            assert!(single(value).unwrap_err().contains(word), "{value}");
        }
    }
}
