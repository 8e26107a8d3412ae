//! Comparison with the f64 reference by relative norm, and what single precision is allowed.

/// Unit of rounding of f32: half the distance from 1 to the next number.
pub(crate) const EPSILON: f64 = 1.0 / (1u32 << 24) as f64;

/// Allowance for so many roundings one after the other, constants rounded to f32 counted too.
pub(crate) fn roundings(count: f64) -> f64 {
    count * EPSILON
}

/// Allowance for sums of so many terms.
///
/// Of terms with mixed signs the k-th partial sum has the size of sqrt(k) terms, and its rounding error epsilon times
/// that at most. The errors add in quadrature to epsilon n / sqrt(2), which is epsilon sqrt(n / 2) of a sum of the size
/// of sqrt(n) terms. (Where the terms have a mean, sums and errors grow alike, to epsilon sqrt(n / 3).)
pub(crate) fn sums(terms: u32) -> f64 {
    EPSILON * f64::from(terms).sqrt()
}

/// `||found - expected|| / ||expected||`; infinite if a value is not finite, an element is missing, or something was
/// found where zeros are expected.
pub(crate) fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() || !found.iter().chain(expected).all(|v| v.is_finite()) {
        return f64::INFINITY;
    }
    let difference = found.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let scale = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
    if difference == 0.0 { 0.0 } else { difference / scale }
}

/// The part of an allowance that an error uses; more than 1 is too much. An allowance of zero asks for equality.
pub(crate) fn share(error: f64, allowed: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / allowed }
}

/// Bit for bit, any NaN equal to any other.
pub(crate) fn identical(found: &[f64], expected: &[f64]) -> bool {
    let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    found.len() == expected.len() && found.iter().zip(expected).all(same)
}

/// What a test compared.
#[derive(Debug, Default)]
pub(crate) struct Report {
    comparisons: usize,
    worst: (f64, String),
    failures: Vec<String>,
}

impl Report {
    /// Compares by relative norm.
    pub(crate) fn near(&mut self, name: &str, found: &[f64], expected: &[f64], allowed: f64) {
        let error = relative_error(found, expected);
        let share = share(error, allowed);
        self.comparisons += 1;
        // A NaN can be neither within the allowance nor hidden by `max`.
        if share.is_nan() || share > 1.0 {
            self.failures.push(format!("{name}: off by {error:.3e}, allowed {allowed:.3e}{}", first(found, expected)));
        }
        if share.is_nan() || share >= self.worst.0 {
            self.worst = (share, name.to_owned());
        }
    }

    /// Compares bit for bit.
    pub(crate) fn same(&mut self, name: &str, found: &[f64], expected: &[f64]) {
        self.comparisons += 1;
        if !identical(found, expected) {
            self.failures.push(format!("{name}: bits differ{}", first(found, expected)));
        }
    }

    /// All failures in one text; also one that nothing was compared.
    fn verdict(&self) -> Result<(), String> {
        match self.failures.as_slice() {
            [] if self.comparisons == 0 => Err("nothing was compared".into()),
            [] => Ok(()),
            all => Err(format!("{} failures\n{}", all.len(), all[..all.len().min(20)].join("\n"))),
        }
    }

    /// Prints the largest share of an allowance, and fails if any comparison did.
    pub(crate) fn finish(self, title: &str) {
        let (share, name) = &self.worst;
        println!("{title}: {} comparisons, at most {:.0} % of the allowance {name}", self.comparisons, share * 100.0);
        self.verdict().unwrap_or_else(|failures| panic!("{title}: {failures}"));
    }
}

/// Where two lists differ most visibly.
fn first(found: &[f64], expected: &[f64]) -> String {
    if found.len() != expected.len() {
        return format!(", {} elements in place of {}", found.len(), expected.len());
    }
    let gap = |at: &usize| {
        let gap = (found[*at] - expected[*at]).abs();
        if gap.is_nan() { f64::INFINITY } else { gap }
    };
    let worst = (0..found.len()).max_by(|a, b| gap(a).total_cmp(&gap(b)).then(b.cmp(a)));
    worst.map_or(String::new(), |at| format!("; at {at} found {:e}, expected {:e}", found[at], expected[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: f64 = 1e-6;

    /// A 5 x 4 matrix whose rows and columns all differ.
    fn matrix() -> Vec<f64> {
        (0..20).map(|i| 1.0 + 0.3 * f64::from(i / 4) - 0.7 * f64::from(i % 4)).collect()
    }

    fn fails(found: &[f64]) -> bool {
        let mut report = Report::default();
        report.near("case", found, &matrix(), ALLOWED);
        report.verdict().is_err()
    }

    #[test]
    fn rounding_passes_and_is_reported_as_a_share() {
        let rounded: Vec<f64> = matrix().iter().map(|&v| f64::from(v as f32)).collect();
        assert!(!fails(&rounded));
        let error = relative_error(&rounded, &matrix());
        assert!(error > 0.0 && error <= EPSILON, "{error:e}");
        assert_eq!(share(EPSILON, roundings(4.0)), 0.25);
    }

    #[test]
    fn a_wrong_element_fails() {
        for at in 0..20 {
            let mut found = matrix();
            found[at] += 1e-4;
            assert!(fails(&found), "element {at}");
        }
    }

    #[test]
    fn a_transposed_matrix_fails() {
        let turned: Vec<f64> = (0..20).map(|i| matrix()[i % 5 * 4 + i / 5]).collect();
        assert!(fails(&turned));
    }

    #[test]
    fn a_missing_row_fails() {
        assert!(fails(&matrix()[..16]));
        let mut unwritten = matrix();
        unwritten[16..].fill(0.0);
        assert!(fails(&unwritten));
    }

    #[test]
    fn nan_and_infinity_fail_on_either_side() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut found = matrix();
            found[7] = value;
            assert!(fails(&found));
            assert!(relative_error(&matrix(), &found).is_infinite());
            assert!(relative_error(&found, &found).is_infinite(), "equal, and still not a result");
        }
    }

    #[test]
    fn all_zeros_fail() {
        assert!(fails(&[0.0; 20]));
        assert!(fails(&[]));
    }

    #[test]
    fn anything_but_zero_fails_where_zeros_are_expected() {
        assert_eq!(relative_error(&[0.0, 0.0], &[0.0, 0.0]), 0.0);
        assert!(relative_error(&[0.0, 1e-30], &[0.0, 0.0]).is_infinite());
    }

    #[test]
    fn an_allowance_of_zero_asks_for_equality() {
        let mut report = Report::default();
        report.near("case", &[1.0 + f64::EPSILON], &[1.0], 0.0);
        assert_eq!(report.failures.len(), 1);
    }

    #[test]
    fn bits_tell_zeros_apart_and_nan_equals_nan() {
        assert!(identical(&[f64::NAN, 1.0], &[-f64::NAN, 1.0]));
        assert!(!identical(&[0.0], &[-0.0]));
        assert!(!identical(&[1.0], &[1.0, 1.0]));
        assert!(!identical(&[1.0], &[1.0 + f64::EPSILON]));
    }

    #[test]
    fn a_report_without_comparisons_fails() {
        assert!(Report::default().verdict().is_err());
    }

    #[test]
    #[should_panic(expected = "title: 1 failures\ncase: bits differ; at 1 found 2e0, expected 3e0")]
    fn a_failure_fails_the_test_and_says_where() {
        let mut report = Report::default();
        report.same("case", &[1.0, 2.0], &[1.0, 3.0]);
        report.finish("title");
    }
}
