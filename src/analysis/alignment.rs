//! Feedback against the weight that it stands in for.

/// One replica's feedback and weight, row-major, all in the layout of errors as rows.
#[derive(Clone, Copy, Debug)]
pub struct Matrices<'a> {
    /// W, m x k.
    pub weight: &'a [f64],
    /// What stands in for it: p q, or a random matrix; m x k.
    pub feedback: &'a [f64],
    /// p, m x r with r > 0; `None` for unfactored feedback or where the error has another width than W.
    pub p: Option<&'a [f64]>,
    /// Error that the pathway takes, rows x m.
    pub error: &'a [f64],
    /// Columns of the error: rows of p.
    pub width: usize,
}

/// How a pathway compares with exact transport. What is not defined is `None`, never a number that looks like one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alignment {
    /// Angle between feedback and weight as vectors, in degrees; none where one of them is zero.
    pub angle_degrees: Option<f64>,
    /// ||feedback|| / ||W||; none where W is zero.
    pub norm_ratio: Option<f64>,
    /// Share of the error's variance within the rows of P: tr(P C P^T) / tr C, P made orthonormal first; none without P, and
    /// where all rows of the error are equal.
    pub captured_energy: Option<f64>,
    /// ||P P^T - I||, 0 for orthonormal P.
    pub orthonormality_error: Option<f64>,
}

/// Compares one pathway with its weight.
pub fn alignment(matrices: &Matrices<'_>) -> Alignment {
    let (weight, feedback) = (matrices.weight, matrices.feedback);
    let norms = norm(weight) * norm(feedback);
    let cosine = (norms > 0.0).then(|| (dot(weight, feedback) / norms).clamp(-1.0, 1.0));
    let rows_of_p = matrices.p.map(|p| columns(p, matrices.width));
    Alignment {
        angle_degrees: cosine.map(|cosine| cosine.acos().to_degrees()),
        norm_ratio: (norm(weight) > 0.0).then(|| norm(feedback) / norm(weight)),
        captured_energy: rows_of_p.as_ref().and_then(|rows| captured(rows, matrices.error, matrices.width)),
        orthonormality_error: rows_of_p.as_ref().map(|rows| orthonormality_error(rows)),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// The columns of p (m x r), which are the rows of P.
fn columns(p: &[f64], m: usize) -> Vec<Vec<f64>> {
    let rank = p.len() / m;
    (0..rank).map(|j| (0..m).map(|i| p[i * rank + j]).collect()).collect()
}

fn orthonormality_error(rows: &[Vec<f64>]) -> f64 {
    let mut sum = 0.0;
    for (i, a) in rows.iter().enumerate() {
        for (j, b) in rows.iter().enumerate() {
            let expected = if i == j { 1.0 } else { 0.0 };
            sum += (dot(a, b) - expected).powi(2);
        }
    }
    sum.sqrt()
}

/// An orthonormal basis of the same space, by Gram and Schmidt done twice.
fn basis(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for row in rows {
        let mut rest = row.clone();
        for _ in 0..2 {
            for known in &basis {
                let part = dot(&rest, known);
                rest.iter_mut().zip(known).for_each(|(r, k)| *r -= part * k);
            }
        }
        let length = norm(&rest);
        if length > 1e-9 * norm(row) {
            basis.push(rest.into_iter().map(|x| x / length).collect());
        }
    }
    basis
}

fn captured(rows: &[Vec<f64>], error: &[f64], width: usize) -> Option<f64> {
    let count = (error.len() / width).max(1) as f64;
    let mut mean = vec![0.0; width];
    for sample in error.chunks(width) {
        mean.iter_mut().zip(sample).for_each(|(m, e)| *m += e / count);
    }
    let basis = basis(rows);
    let (mut inside, mut total) = (0.0, 0.0);
    for sample in error.chunks(width) {
        let centred: Vec<f64> = sample.iter().zip(&mean).map(|(e, m)| e - m).collect();
        total += dot(&centred, &centred);
        inside += basis.iter().map(|row| dot(row, &centred).powi(2)).sum::<f64>();
    }
    (total > 0.0).then(|| inside / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrices<'a>(weight: &'a [f64], feedback: &'a [f64], p: &'a [f64], error: &'a [f64]) -> Matrices<'a> {
        Matrices { weight, feedback, p: Some(p), error, width: 2 }
    }

    #[test]
    fn a_scaled_copy_has_no_angle_and_an_orthogonal_one_ninety_degrees() {
        let (weight, error) = ([3.0, 0.0, 0.0, 4.0], [1.0, 0.0, -1.0, 0.0]);
        let copy = alignment(&matrices(&weight, &[6.0, 0.0, 0.0, 8.0], &[1.0, 0.0], &error));
        assert!(copy.angle_degrees.unwrap() < 1e-6 && (copy.norm_ratio.unwrap() - 2.0).abs() < 1e-12);
        let other = alignment(&matrices(&weight, &[0.0, 5.0, 1.0, 0.0], &[1.0, 0.0], &error));
        assert!((other.angle_degrees.unwrap() - 90.0).abs() < 1e-9);
    }

    #[test]
    fn captured_energy_is_the_share_of_variance_in_the_space_of_p() {
        // Variances 1 along x and 4 along y (the mean, 10, must not count); P along y, twice too long.
        let error = [11.0, 0.0, 9.0, 0.0, 10.0, 2.0, 10.0, -2.0];
        let found = alignment(&matrices(&[1.0; 4], &[1.0; 4], &[0.0, 2.0], &error));
        assert!((found.captured_energy.unwrap() - 8.0 / 10.0).abs() < 1e-12);
        assert!((found.orthonormality_error.unwrap() - 3.0).abs() < 1e-12, "|2 * 2 - 1|");
    }

    #[test]
    fn what_is_not_defined_is_no_number() {
        let (one, zero) = ([1.0; 4], [0.0; 4]);
        // A single row, and rows that are equal, have no variance.
        for error in [&[3.0, 4.0][..], &[3.0, 4.0, 3.0, 4.0]] {
            let found = alignment(&matrices(&one, &one, &[1.0, 0.0], error));
            assert_eq!(found.captured_energy, None);
            assert!(found.angle_degrees.is_some() && found.norm_ratio.is_some());
        }
        let error = [1.0, 0.0, -1.0, 0.0];
        let no_weight = alignment(&matrices(&zero, &one, &[1.0, 0.0], &error));
        assert_eq!((no_weight.angle_degrees, no_weight.norm_ratio), (None, None));
        let no_feedback = alignment(&matrices(&one, &zero, &[1.0, 0.0], &error));
        assert_eq!((no_feedback.angle_degrees, no_feedback.norm_ratio), (None, Some(0.0)));
    }
}
