//! Attention among the positions of a sample, its matrices of probabilities written out.

use super::matrix::Matrix;
use crate::ops::Heads;
use crate::ops::random::{pcg4d, unit};

/// The operands that the way forward and back share; the key is (stream, step, seed).
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) qkv: Matrix<'a>,
    pub(super) heads: Heads,
    pub(super) key: [u32; 3],
}

/// Queries, keys or values, by their place in a row.
#[derive(Clone, Copy, Debug)]
enum Of {
    Queries = 0,
    Keys = 1,
    Values = 2,
}

/// One sample and head.
#[derive(Clone, Copy, Debug)]
struct Head {
    sample: usize,
    head: usize,
}

impl Input<'_> {
    /// Columns of queries, keys or values.
    pub(super) fn cols(&self) -> usize {
        self.qkv.cols / 3
    }

    fn width(&self) -> usize {
        self.cols() / self.heads.count as usize
    }

    fn length(&self) -> usize {
        self.heads.length as usize
    }

    fn all(&self) -> impl Iterator<Item = Head> + use<> {
        let (samples, heads) = (self.qkv.rows / self.length(), self.heads.count as usize);
        (0..samples).flat_map(move |sample| (0..heads).map(move |head| Head { sample, head }))
    }

    /// A head's part of a row of queries, keys or values.
    fn vector(&self, at: Head, of: Of, position: usize) -> &[f64] {
        let row = self.qkv.row(at.sample * self.length() + position);
        &row[of as usize * self.cols() + at.head * self.width()..][..self.width()]
    }

    /// A head's part of a row of results or errors.
    fn part<'b>(&self, at: Head, matrix: Matrix<'b>, position: usize) -> &'b [f64] {
        &matrix.row(at.sample * self.length() + position)[at.head * self.width()..][..self.width()]
    }

    /// Keys that a query sees.
    fn seen(&self, query: usize) -> usize {
        if self.heads.causal { query + 1 } else { self.length() }
    }

    fn score(&self, at: Head, query: usize, key: usize) -> f64 {
        dot(self.vector(at, Of::Queries, query), self.vector(at, Of::Keys, key)) / (self.width() as f64).sqrt()
    }

    /// What dropout multiplies a probability by.
    fn kept(&self, at: Head, query: usize, key: usize) -> f64 {
        let Heads { count, length, drop, .. } = self.heads;
        // Words wrap as they do in the shader, which compares in f32: with the same rounded bound both draw one mask.
        let index = |high: u32, base: u32, low: usize| high.wrapping_mul(base).wrapping_add(low as u32);
        let element = index(index(index(at.sample as u32, count, at.head), length, query), length, key);
        let [stream, step, seed] = self.key;
        let kept = unit(pcg4d([element, stream, step, seed])[0]) >= f64::from(drop as f32);
        if kept { 1.0 / (1.0 - drop) } else { 0.0 }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(sum: &mut [f64], factor: f64, to: &[f64]) {
    sum.iter_mut().zip(to).for_each(|(sum, x)| *sum += factor * x);
}

/// The result, and the logarithm of the sum of exponentials of every row and head.
pub(super) fn attention(input: &Input<'_>) -> (Vec<f64>, Vec<f64>) {
    let (cols, width, heads) = (input.cols(), input.width(), input.heads.count as usize);
    let (mut out, mut stats) = (vec![0.0; input.qkv.rows * cols], vec![0.0; input.qkv.rows * heads]);
    for at in input.all() {
        for query in 0..input.length() {
            let row = at.sample * input.length() + query;
            let scores: Vec<f64> = (0..input.seen(query)).map(|key| input.score(at, query, key)).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let stat = top + scores.iter().map(|score| (score - top).exp()).sum::<f64>().ln();
            stats[row * heads + at.head] = stat;
            let out = &mut out[row * cols + at.head * width..][..width];
            for (key, score) in scores.iter().enumerate() {
                let p = (score - stat).exp() * input.kept(at, query, key);
                add(out, p, input.vector(at, Of::Values, key));
            }
        }
    }
    (out, stats)
}

/// Of one pair on the way back: the probability with its mask, and the gradient of the score.
fn pair(
    input: &Input<'_>,
    at: Head,
    [query, key]: [usize; 2],
    error: Matrix<'_>,
    stats: Matrix<'_>,
    dot_of_row: f64,
) -> [f64; 2] {
    let stat = stats.at(at.sample * input.length() + query, at.head);
    let (p, kept) = ((input.score(at, query, key) - stat).exp(), input.kept(at, query, key));
    let slope = kept * dot(input.part(at, error, query), input.vector(at, Of::Values, key));
    [p * kept, p * (slope - dot_of_row)]
}

/// The gradient of the queries, rows x C, and `dots`, rows x heads.
pub(super) fn queries(
    input: &Input<'_>,
    error: Matrix<'_>,
    out: Matrix<'_>,
    stats: Matrix<'_>,
) -> (Vec<f64>, Vec<f64>) {
    let (cols, width) = (input.cols(), input.width());
    let (mut gradient, mut dots) = (vec![0.0; input.qkv.rows * cols], vec![0.0; stats.data.len()]);
    for at in input.all() {
        for query in 0..input.length() {
            let row = at.sample * input.length() + query;
            let own = dot(input.part(at, error, query), input.part(at, out, query));
            dots[row * stats.cols + at.head] = own;
            for key in 0..input.seen(query) {
                let [_, slope] = pair(input, at, [query, key], error, stats, own);
                let gradient = &mut gradient[row * cols + at.head * width..][..width];
                add(gradient, slope / (width as f64).sqrt(), input.vector(at, Of::Keys, key));
            }
        }
    }
    (gradient, dots)
}

/// The gradients of keys and of values, rows x C each.
pub(super) fn keys(input: &Input<'_>, error: Matrix<'_>, stats: Matrix<'_>, dots: Matrix<'_>) -> (Vec<f64>, Vec<f64>) {
    let (cols, width) = (input.cols(), input.width());
    let (mut of_keys, mut of_values) = (vec![0.0; input.qkv.rows * cols], vec![0.0; input.qkv.rows * cols]);
    for at in input.all() {
        for query in 0..input.length() {
            let own = dots.at(at.sample * input.length() + query, at.head);
            for key in 0..input.seen(query) {
                let [p, slope] = pair(input, at, [query, key], error, stats, own);
                let begin = (at.sample * input.length() + key) * cols + at.head * width;
                let query_row = input.vector(at, Of::Queries, query);
                add(&mut of_keys[begin..][..width], slope / (width as f64).sqrt(), query_row);
                add(&mut of_values[begin..][..width], p, input.part(at, error, query));
            }
        }
    }
    (of_keys, of_values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::{assert_close, differences, noise};

    const HEADS: Heads = Heads { count: 2, length: 4, causal: false, drop: 0.0, stream: 3 };

    /// Two samples, two heads of three columns.
    fn input(qkv: &[f64], heads: Heads) -> Input<'_> {
        Input { qkv: Matrix::new(8, 18, qkv), heads, key: [heads.stream, 5, 7] }
    }

    #[test]
    fn attention_by_hand() {
        // One head of one column; scores 0 and ln 3 of the first query, 0 and 0 of the second.
        let qkv = [1.0, 0.0, 8.0, 0.0, 3f64.ln(), 4.0];
        let heads = Heads { count: 1, length: 2, ..HEADS };
        let input = Input { qkv: Matrix::new(2, 3, &qkv), heads, key: [0; 3] };
        let (out, stats) = attention(&input);
        assert_close(&out, &[0.25 * 8.0 + 0.75 * 4.0, 6.0], 1e-15);
        assert_close(&stats, &[4f64.ln(), 2f64.ln()], 1e-15);
        let causal = Input { heads: Heads { causal: true, ..heads }, ..input };
        assert_close(&attention(&causal).0, &[8.0, 6.0], 1e-15);
    }

    #[test]
    fn the_gradients_are_derivatives() {
        let (qkv, error) = (noise(8 * 18, 1), noise(8 * 6, 2));
        for (causal, drop) in [(false, 0.0), (true, 0.0), (false, 0.3), (true, 0.5)] {
            let heads = Heads { causal, drop, ..HEADS };
            let here = input(&qkv, heads);
            let (out, stats) = attention(&here);
            let (error_matrix, stats) = (Matrix::new(8, 6, &error), Matrix::new(8, 2, &stats));
            let (of_queries, dots) = queries(&here, error_matrix, Matrix::new(8, 6, &out), stats);
            let (of_keys, of_values) = keys(&here, error_matrix, stats, Matrix::new(8, 2, &dots));
            let found: Vec<f64> = (0..8)
                .flat_map(|row| [&of_queries, &of_keys, &of_values].map(|part| &part[row * 6..][..6]).concat())
                .collect();
            let expected = differences(&qkv, |qkv| dot(&error, &attention(&input(qkv, heads)).0));
            assert_close(&found, &expected, 1e-8);
        }
    }

    #[test]
    fn without_dropout_a_row_of_probabilities_sums_to_one() {
        let mut qkv = noise(8 * 18, 4);
        for row in qkv.chunks_mut(18) {
            row[12..].fill(2.5);
        }
        assert_close(&attention(&input(&qkv, HEADS)).0, &[2.5; 48], 1e-12);
    }

    #[test]
    fn masks_depend_on_sample_head_query_and_key() {
        let qkv = vec![0.0; 8 * 18];
        let here = input(&qkv, Heads { drop: 0.5, ..HEADS });
        let mask = |sample, head| {
            let pairs = (0..4).flat_map(|query| (0..4).map(move |key| [query, key]));
            pairs.map(|[query, key]| here.kept(Head { sample, head }, query, key)).collect::<Vec<_>>()
        };
        let all = [mask(0, 0), mask(0, 1), mask(1, 0), mask(1, 1)];
        for (at, one) in all.iter().enumerate() {
            assert!(one.iter().all(|&kept| kept == 0.0 || kept == 2.0));
            assert!(all[..at].iter().all(|other| other != one), "two heads drop the same");
        }
    }

    #[test]
    fn large_scores_stay_finite() {
        let qkv: Vec<f64> = noise(8 * 18, 6).iter().map(|x| 200.0 * x).collect();
        let (out, stats) = attention(&input(&qkv, HEADS));
        assert!(out.iter().chain(&stats).all(|v| v.is_finite()));
        assert!(stats.iter().any(|v| v.abs() > 1e4));
    }
}
