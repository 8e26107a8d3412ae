//! Recurrent cells, a sequence and a step at a time.

use super::matrix::Matrix;
use crate::ops::{Cell, Steps};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// What a cell is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) cell: Cell,
    pub(super) steps: Steps,
    pub(super) a: Matrix<'a>,
    pub(super) weight: Matrix<'a>,
    pub(super) bias: &'a [f64],
}

/// Rows of the steps that are taken, sequence by sequence.
fn rows(steps: Steps, rows: usize) -> impl DoubleEndedIterator<Item = usize> {
    let taken = steps.first as usize..steps.end() as usize;
    (0..rows).filter(move |row| taken.contains(&(row % steps.length as usize)))
}

/// Writes the states, and of every step what the cell keeps.
pub(super) fn forward(input: &Input<'_>, states: &mut [f64], saved: &mut [f64]) {
    let &Input { cell, steps, a, weight, bias } = input;
    let (width, kept) = (weight.cols, cell.saved() as usize * weight.cols);
    for row in rows(steps, a.rows) {
        let is_first = row % steps.length as usize == 0;
        let before = if is_first { vec![0.0; width] } else { states[(row - 1) * width..][..width].to_vec() };
        for unit in 0..width {
            let gate = |which: usize| which * width + unit;
            let s = |which: usize| -> f64 {
                let products = before.iter().zip(weight.row(gate(which))).map(|(h, w)| h * w);
                bias[gate(which)] + products.sum::<f64>()
            };
            let both = |which: usize| a.at(row, gate(which)) + s(which);
            let (state, keeps) = match cell {
                Cell::Rnn => (both(0).tanh(), vec![]),
                Cell::Gru => {
                    let (r, z, inner) = (sigmoid(both(0)), sigmoid(both(1)), s(2));
                    let n = (a.at(row, gate(2)) + r * inner).tanh();
                    ((1.0 - z) * n + z * before[unit], vec![r, z, n, inner, before[unit] - n])
                }
                Cell::Lstm => {
                    let [i, f, o] = [0, 1, 3].map(|which| sigmoid(both(which)));
                    let g = both(2).tanh();
                    let memory = if is_first { 0.0 } else { saved[(row - 1) * kept + 4 * width + unit] };
                    let c = f * memory + i * g;
                    (o * c.tanh(), vec![i, f, g, o, c])
                }
            };
            states[row * width + unit] = state;
            for (which, value) in keeps.into_iter().enumerate() {
                saved[row * kept + gate(which)] = value;
            }
        }
    }
}

/// What an error goes through from the gates to the state before.
#[derive(Clone, Copy, Debug)]
pub(super) enum Through<'a> {
    Whole(Matrix<'a>),
    Factored(Matrix<'a>, Matrix<'a>),
}

/// What the way back is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backward<'a> {
    pub(super) cell: Cell,
    pub(super) steps: Steps,
    pub(super) window: Option<u32>,
    pub(super) clamp: Option<f64>,
    pub(super) error: Matrix<'a>,
    /// Of an rnn the states.
    pub(super) saved: Matrix<'a>,
    pub(super) through: Through<'a>,
}

/// What it finds, row by row.
#[derive(Clone, Debug, Default)]
pub(super) struct Errors {
    /// Of a.
    pub(super) gates: Vec<f64>,
    /// Of s.
    pub(super) hidden: Vec<f64>,
    /// Those of s by p, if there is one.
    pub(super) y: Vec<f64>,
    /// What a sample's last step that was taken carries to the one before it.
    pub(super) carried: Vec<f64>,
}

/// A row by a matrix.
fn product(row: &[f64], matrix: Matrix<'_>) -> Vec<f64> {
    (0..matrix.cols).map(|col| row.iter().enumerate().map(|(at, x)| x * matrix.at(at, col)).sum()).collect()
}

/// Writes the errors of the gates, into what the steps behind have left.
pub(super) fn backward(input: &Backward<'_>, found: &mut Errors) {
    let &Backward { cell, steps, window, clamp, error, saved, through } = input;
    let (width, gates, length) = (error.cols, cell.gates() as usize * error.cols, steps.length as usize);
    for row in rows(steps, error.rows).rev() {
        let (sample, step) = (row / length, row % length);
        let kept = |which: usize, unit: usize| saved.at(row, which * width + unit);
        let remaining = length - 1 - step;
        let is_reached = remaining > 0 && window.is_none_or(|window| !remaining.is_multiple_of(window as usize));
        let project = |found: &mut Errors, row: usize| {
            if let Through::Factored(p, _) = through {
                let y = product(&found.hidden[row * gates..][..gates], p);
                found.y[row * p.cols..][..p.cols].copy_from_slice(&y);
            }
        };
        if remaining > 0 {
            project(found, row + 1);
        }
        // From the step behind.
        let mut passed = vec![0.0; width];
        if is_reached {
            let sum = match through {
                Through::Whole(weight) => product(&found.hidden[(row + 1) * gates..][..gates], weight),
                Through::Factored(p, q) => product(&found.y[(row + 1) * p.cols..][..p.cols], q),
            };
            passed = sum.into_iter().map(|x| clamp.map_or(x, |bound| x.clamp(-bound, bound))).collect();
        }
        for unit in 0..width {
            let error = error.at(row, unit) + passed[unit];
            let carried = &mut found.carried;
            let before = if is_reached && cell != Cell::Rnn { carried[sample * width + unit] } else { 0.0 };
            let (of_a, of_s) = match cell {
                Cell::Rnn => {
                    let of_a = error * (1.0 - kept(0, unit).powi(2));
                    (vec![of_a], vec![of_a])
                }
                Cell::Gru => {
                    let [r, z, n, inner, more] = [0, 1, 2, 3, 4].map(|which| kept(which, unit));
                    let error = error + before;
                    let of_n = error * (1.0 - z) * (1.0 - n * n);
                    let of_r = of_n * inner * r * (1.0 - r);
                    let of_z = error * more * z * (1.0 - z);
                    carried[sample * width + unit] = error * z;
                    (vec![of_r, of_z, of_n], vec![of_r, of_z, of_n * r])
                }
                Cell::Lstm => {
                    let [i, f, g, o, c] = [0, 1, 2, 3, 4].map(|which| kept(which, unit));
                    let memory = if step == 0 { 0.0 } else { saved.at(row - 1, 4 * width + unit) };
                    let of_c = before + error * o * (1.0 - c.tanh().powi(2));
                    carried[sample * width + unit] = of_c * f;
                    let of_a = vec![
                        of_c * g * i * (1.0 - i),
                        of_c * memory * f * (1.0 - f),
                        of_c * i * (1.0 - g * g),
                        error * c.tanh() * o * (1.0 - o),
                    ];
                    (of_a.clone(), of_a)
                }
            };
            for (gate, (of_a, of_s)) in of_a.into_iter().zip(of_s).enumerate() {
                let at = row * gates + gate * width + unit;
                (found.gates[at], found.hidden[at]) = (of_a, of_s);
            }
        }
        if step == 0 {
            project(found, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::{assert_close, differences, dot, noise};

    /// States, and what the cell keeps.
    fn run(input: &Input<'_>) -> (Vec<f64>, Vec<f64>) {
        let units = input.a.rows * input.weight.cols;
        let (mut states, mut saved) = (vec![0.0; units], vec![0.0; units * input.cell.saved() as usize]);
        forward(input, &mut states, &mut saved);
        (states, saved)
    }

    /// The way back, in pieces of so many steps.
    fn back(input: &Backward<'_>, most: u32) -> Errors {
        let (rows, width) = (input.error.rows, input.error.cols);
        let gates = vec![0.0; rows * width * input.cell.gates() as usize];
        let rank = match input.through {
            Through::Whole(_) => 0,
            Through::Factored(p, _) => p.cols,
        };
        let carried = vec![0.0; rows / input.steps.length as usize * width];
        let mut found = Errors { hidden: gates.clone(), gates, y: vec![0.0; rows * rank], carried };
        for steps in input.steps.cut(most).rev() {
            backward(&Backward { steps, ..*input }, &mut found);
        }
        found
    }

    /// PyTorch's `nn.GRU(1, 1)` and `nn.LSTM(1, 1)`, written out for one unit and two steps.
    #[test]
    fn one_unit_by_hand() {
        let steps = Steps::all(2);
        let (a, weight, bias) = ([0.1, 0.2, 0.3, -0.4, 0.5, -0.6], [0.7, -0.8, 0.9], [0.05, 0.15, -0.25]);
        let (a, w) = (Matrix::new(2, 3, &a), Matrix::new(3, 1, &weight));
        let n = (0.3 - sigmoid(0.15) * 0.25).tanh();
        let first = (1.0 - sigmoid(0.35)) * n;
        let s = [0, 1, 2].map(|gate| bias[gate] + weight[gate] * first);
        let (r, z) = (sigmoid(-0.4 + s[0]), sigmoid(0.5 + s[1]));
        let second = (1.0 - z) * (-0.6 + r * s[2]).tanh() + z * first;
        let found = run(&Input { cell: Cell::Gru, steps, a, weight: w, bias: &bias }).0;
        assert_close(&found, &[first, second], 1e-15);

        let (a, weight) = ([0.1, 0.2, 0.3, 0.4, -0.5, 0.6, 0.7, -0.8], [0.7, -0.8, 0.9, 0.3]);
        let (a, w) = (Matrix::new(2, 4, &a), Matrix::new(4, 1, &weight));
        let c = sigmoid(0.1) * 0.3f64.tanh();
        let first = sigmoid(0.4) * c.tanh();
        let s = weight.map(|w| w * first);
        let next = sigmoid(0.6 + s[1]) * c + sigmoid(-0.5 + s[0]) * (0.7 + s[2]).tanh();
        let found = run(&Input { cell: Cell::Lstm, steps, a, weight: w, bias: &[0.0; 4] }).0;
        assert_close(&found, &[first, sigmoid(-0.8 + s[3]) * next.tanh()], 1e-15);
    }

    /// Three samples of five steps: errors of a are the derivatives by a, those of s by the bias; a product of factors that is
    /// the weight changes nothing, nor does taking the steps in pieces.
    #[test]
    fn the_gradients_are_derivatives() {
        let (samples, length, width) = (3, 5, 4);
        let steps = Steps::all(length as u32);
        for cell in Cell::ALL {
            let gates = cell.gates() as usize * width;
            let rows = samples * length;
            let (a, weight, bias) = (noise(rows * gates, 1), noise(gates * width, 2), noise(gates, 3));
            let error = noise(rows * width, 4);
            let weight = Matrix::new(gates, width, &weight);
            let made =
                |a: &[f64], bias: &[f64]| run(&Input { cell, steps, a: Matrix::new(rows, gates, a), weight, bias });
            let (states, saved) = made(&a, &bias);
            let saved = match cell {
                Cell::Rnn => Matrix::new(rows, width, &states),
                _ => Matrix::new(rows, cell.saved() as usize * width, &saved),
            };
            let (error_of, window, clamp) = (Matrix::new(rows, width, &error), None, None);
            let input =
                Backward { cell, steps, window, clamp, error: error_of, saved, through: Through::Whole(weight) };
            let found = back(&input, 5);
            assert_close(&found.gates, &differences(&a, |a| dot(&error, &made(a, &bias).0)), 1e-7);
            let of_bias: Vec<f64> =
                (0..gates).map(|gate| (0..rows).map(|row| found.hidden[row * gates + gate]).sum()).collect();
            assert_close(&of_bias, &differences(&bias, |bias| dot(&error, &made(&a, bias).0)), 1e-7);

            assert_eq!(back(&input, 2).gates, found.gates);
            let identity: Vec<f64> =
                (0..width * width).map(|at| if at % (width + 1) == 0 { 1.0 } else { 0.0 }).collect();
            let through = Through::Factored(weight, Matrix::new(width, width, &identity));
            let factored = back(&Backward { through, ..input }, 3);
            assert_close(&factored.gates, &found.gates, 1e-14);
            let sent = Matrix::new(rows, gates, &found.hidden);
            let y: Vec<f64> = (0..rows).flat_map(|row| product(sent.row(row), weight)).collect();
            assert_close(&factored.y, &y, 1e-14);
        }
    }

    /// Cut behind every second step from the last, five steps are three sequences of 1, 2 and 2.
    #[test]
    fn a_window_cuts_from_the_last_step() {
        let width = 3;
        let (gates, kept) = (4 * width, 5 * width);
        let (saved, error, weight) = (noise(5 * kept, 2), noise(5 * width, 3), noise(gates * width, 4));
        let of = |rows: std::ops::Range<usize>, window| {
            let input = Backward {
                cell: Cell::Lstm,
                steps: Steps::all(rows.len() as u32),
                window,
                clamp: None,
                error: Matrix::new(rows.len(), width, &error[rows.start * width..rows.end * width]),
                saved: Matrix::new(rows.len(), kept, &saved[rows.start * kept..rows.end * kept]),
                through: Through::Whole(Matrix::new(gates, width, &weight)),
            };
            back(&input, 5).gates
        };
        let (cut, whole) = (of(0..5, Some(2)), of(0..5, None));
        // The last two steps of a sequence of four are those of the one that is cut, since both know the step before.
        assert_eq!(cut[3 * gates..], of(1..5, None)[2 * gates..]);
        assert_eq!(cut[gates..3 * gates], of(0..3, None)[gates..]);
        assert_eq!(of(0..5, Some(5)), whole);
        assert_ne!(cut, whole);
    }
}
