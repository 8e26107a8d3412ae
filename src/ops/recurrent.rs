//! Recurrent cells over the steps of a sequence.
//!
//! A sequence lies in the rows below each other, a sample's steps side by side as an image's pixels do. What a cell makes of its
//! input alone, `a = x W_ih^T + b_ih`, is one product over all steps and not part of these operations; nor are the gradients of
//! its weights. What recurs is.

use serde::{Deserialize, Serialize};

use super::{Operand, Operation, View, read, require, sum};

/// How a step's state comes from the one before: PyTorch's `RNN` (tanh), `GRU` and `LSTM`.
///
/// With `s = h W_hh^T + b_hh` of the state h before, gates side by side in the columns of a and s:
/// - rnn: `h' = tanh(a + s)`
/// - gru: `r, z = sigmoid(a + s)`, `n = tanh(a_n + r s_n)`, `h' = (1 - z) n + z h`
/// - lstm: `i, f, o = sigmoid(a + s)`, `g = tanh(a_g + s_g)`, `c' = f c + i g`, `h' = o tanh(c')`; in the order i, f, g, o
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    /// One tanh.
    Rnn,
    /// Reset, update, new.
    Gru,
    /// Input, forget, cell, output.
    Lstm,
}

impl Cell {
    /// All of them.
    pub const ALL: [Cell; 3] = [Cell::Rnn, Cell::Gru, Cell::Lstm];

    /// As configurations call it.
    pub fn name(self) -> &'static str {
        match self {
            Cell::Rnn => "rnn",
            Cell::Gru => "gru",
            Cell::Lstm => "lstm",
        }
    }

    /// Rows of the weights for each unit.
    pub fn gates(self) -> u32 {
        match self {
            Cell::Rnn => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    /// Numbers that a unit keeps of a step for the way back, beside its state: of a GRU r, z, n, s_n and h - n, of an LSTM i, f,
    /// g, o and c'.
    pub fn saved(self) -> u32 {
        match self {
            Cell::Rnn => 0,
            Cell::Gru | Cell::Lstm => 5,
        }
    }

    /// Operations of a unit and step beside the products, forward and on the way back; a sigmoid counts as one.
    fn flops(self) -> [u64; 2] {
        match self {
            Cell::Rnn => [3, 4],
            Cell::Gru => [14, 18],
            Cell::Lstm => [17, 24],
        }
    }
}

/// Steps of a sequence that one operation takes: all of them, or some, where a plan has cut it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Steps of a sequence.
    pub length: u32,
    /// The first that is taken.
    pub first: u32,
    /// How many are.
    pub count: u32,
}

impl Steps {
    /// All steps of a sequence.
    pub fn all(length: u32) -> Steps {
        Steps { length, first: 0, count: length }
    }

    /// Behind the last that is taken.
    pub fn end(self) -> u32 {
        self.first + self.count
    }

    /// In pieces of at most so many steps, in their order.
    pub fn cut(self, most: u32) -> impl DoubleEndedIterator<Item = Steps> {
        let firsts = (self.first..self.end()).step_by(most.max(1) as usize);
        firsts.map(move |first| Steps { first, count: most.max(1).min(self.end() - first), ..self })
    }

    fn details(self) -> String {
        match self.count == self.length {
            true => format!("{} steps", self.length),
            false => format!("steps {} to {} of {}", self.first + 1, self.end(), self.length),
        }
    }
}

/// The steps of a cell, from a first state of zeros.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence {
    /// What the inputs give to the gates, (samples length) x (gates H).
    pub a: View,
    /// W_hh, (gates H) x H.
    pub weight: View,
    /// b_hh, 1 x (gates H).
    pub bias: View,
    /// The states, (samples length) x H.
    pub out: View,
    /// Of every step what [`Cell::saved`] says, side by side, each H wide; none of an rnn.
    pub saved: Option<View>,
    /// How a state follows from the one before.
    pub cell: Cell,
    /// Those that are taken; the ones before have been.
    pub steps: Steps,
}

/// What both ways require of the states, and of what belongs to the gates.
fn check_states(cell: Cell, steps: Steps, out: View, gates: &[View]) -> Result<(), String> {
    let Steps { length, count, .. } = steps;
    require(length >= 1 && out.rows().is_multiple_of(length), "rows must be whole sequences of the length")?;
    require(count >= 1 && steps.end() <= length, "the steps must be some of the sequence's")?;
    require(out.cols() >= 1, "there must be a unit")?;
    require(
        gates.iter().all(|t| t.rows() == out.rows() && t.cols() == cell.gates() * out.cols()),
        "what belongs to the gates must have a row a state, and of every unit each gate",
    )
}

fn check_saved(cell: Cell, out: View, saved: Option<View>) -> Result<(), String> {
    require(
        saved.map_or(0, |t| t.cols()) == cell.saved() * out.cols() && saved.is_none_or(|t| t.rows() == out.rows()),
        "saved must have a row a state, and of every unit what the cell keeps",
    )
}

fn check_weight(cell: Cell, width: u32, weight: View) -> Result<(), String> {
    require(
        weight.rows() == cell.gates() * width && weight.cols() == width,
        "the weight must have a row for every gate of every unit, and a column a unit",
    )
}

impl Operation for Recurrence {
    fn name(&self) -> &'static str {
        "recurrence"
    }

    fn operands(&self) -> Vec<Operand> {
        let mut all = vec![read("a", self.a), read("weight", self.weight), read("bias", self.bias)];
        // A step reads what the one before has written, in this operation or an earlier one.
        let goes_on = self.steps.first > 0;
        all.push(sum("out", self.out, goes_on));
        all.extend(self.saved.map(|t| sum("saved", t, goes_on)));
        all
    }

    fn check(&self) -> Result<(), String> {
        check_states(self.cell, self.steps, self.out, &[self.a])?;
        check_saved(self.cell, self.out, self.saved)?;
        check_weight(self.cell, self.out.cols(), self.weight)?;
        require(self.bias.rows() == 1 && self.bias.cols() == self.a.cols(), "bias must be a row, as wide as a")
    }

    fn flops(&self) -> u64 {
        let units = self.out.shape.per_replica() as u64 / u64::from(self.steps.length);
        // Nothing stands before the first step.
        let products = u64::from(self.steps.count - u32::from(self.steps.first == 0));
        units * (2 * products * u64::from(self.a.cols()) + u64::from(self.steps.count) * self.cell.flops()[0])
    }

    fn details(&self) -> String {
        format!("{} {}", self.cell.name(), self.steps.details())
    }
}

/// What an error goes through from a step's gates to the state before.
#[derive(Clone, Copy, Debug)]
pub enum StateWeight {
    /// W_hh itself, or a fixed matrix in its place, (gates H) x H.
    Whole(View),
    /// p q: (gates H) x r and r x H.
    Factored {
        /// P^T.
        p: View,
        /// Q^T.
        q: View,
        /// The errors of the gates times p, (samples length) x r: what the rules of p and q learn from. A step's row is written
        /// with the step before it, the first one's with itself.
        y: View,
    },
}

/// The way back of a [`Recurrence`]: its exact derivative but for the weight, in whose place errors go through
/// [`StateWeight`].
///
/// `gates` are the errors of a, and for every cell but a GRU also those of s. What a GRU's reset gate lets through makes its
/// third of s another: `hidden` is all of that.
#[derive(Clone, Copy, Debug)]
pub struct RecurrenceBackward {
    /// dL/dout of what lies above, (samples length) x H.
    pub error: View,
    /// What [`Recurrence`] has saved; of an rnn the states.
    pub saved: View,
    /// dL/da, (samples length) x (gates H).
    pub gates: View,
    /// dL/ds of a GRU, (samples length) x (gates H); none of other cells, whose `gates` it equals.
    pub hidden: Option<View>,
    /// What reaches the step before beside the weight, through the update gate or the memory: samples x H; none of an rnn.
    pub carried: Option<View>,
    /// What errors go through from s to the state before.
    pub through: StateWeight,
    /// Bound on every element of what comes through it, if any.
    pub clamp: Option<f64>,
    /// Steps that an error goes back at most: it is cut where a multiple of as many steps remain to the last. None cuts
    /// nothing.
    pub window: Option<u32>,
    /// Of the recurrence.
    pub cell: Cell,
    /// Those that are taken, from the last to the first; the ones behind have been.
    pub steps: Steps,
}

impl RecurrenceBackward {
    /// Whether errors of the step behind reach one.
    pub fn is_reached(&self, step: u32) -> bool {
        let remaining = self.steps.length - 1 - step;
        remaining > 0 && self.window.is_none_or(|window| !remaining.is_multiple_of(window))
    }

    /// dL/ds: what goes through the weight.
    pub fn sent(&self) -> View {
        self.hidden.unwrap_or(self.gates)
    }
}

impl Operation for RecurrenceBackward {
    fn name(&self) -> &'static str {
        "recurrence-backward"
    }

    fn operands(&self) -> Vec<Operand> {
        let goes_on = self.steps.end() < self.steps.length;
        // A shader binds a tensor as written or as read under one name.
        let mut all = vec![read("error", self.error), read("kept", self.saved)];
        match self.through {
            StateWeight::Whole(weight) => all.push(read("weight", weight)),
            StateWeight::Factored { p, q, y } => all.extend([read("p", p), read("q", q), sum("y", y, goes_on)]),
        }
        all.push(sum("gates", self.gates, goes_on));
        all.extend(self.hidden.map(|t| sum("hidden", t, goes_on)));
        all.extend(self.carried.map(|t| sum("carried", t, goes_on)));
        all
    }

    fn check(&self) -> Result<(), String> {
        let width = self.error.cols();
        let gates: Vec<View> = [Some(self.gates), self.hidden].into_iter().flatten().collect();
        check_states(self.cell, self.steps, self.error, &gates)?;
        match self.cell {
            Cell::Rnn => require(self.saved.shape == self.error.shape, "error and states must have one shape")?,
            cell => check_saved(cell, self.error, Some(self.saved))?,
        }
        require(
            match (self.cell, self.carried) {
                (Cell::Rnn, carried) => carried.is_none(),
                (_, None) => false,
                (_, Some(t)) => (t.rows() * self.steps.length, t.cols()) == (self.error.rows(), width),
            },
            "what is carried has a row a sample and a column a unit; an rnn carries nothing",
        )?;
        require(
            self.hidden.is_some() == (self.cell == Cell::Gru),
            "a GRU has errors of its hidden part, other cells have none",
        )?;
        require(self.window != Some(0), "an error goes back one step at least")?;
        match self.through {
            StateWeight::Whole(weight) => check_weight(self.cell, width, weight),
            StateWeight::Factored { p, q, y } => require(
                p.rows() == self.gates.cols()
                    && q.rows() == p.cols()
                    && q.cols() == width
                    && (y.rows(), y.cols()) == (self.error.rows(), p.cols()),
                "p must have a row for every gate of every unit, q p's columns as rows and a column a unit, y a row a state",
            ),
        }
    }

    fn flops(&self) -> u64 {
        let Steps { length, first, count } = self.steps;
        let samples = u64::from(self.error.rows() / length);
        let (width, gates) = (u64::from(self.error.cols()), u64::from(self.gates.cols()));
        let taken = first..self.steps.end();
        // Steps that errors of the one behind reach, and errors of the gates that are projected, the first step's at last.
        let reached = taken.clone().filter(|&step| self.is_reached(step)).count() as u64;
        let projected = taken.filter(|step| step + 1 < length).count() as u64 + u64::from(first == 0);
        let through = match self.through {
            StateWeight::Whole(_) => 2 * reached * gates * width,
            StateWeight::Factored { p, .. } => 2 * u64::from(p.cols()) * (projected * gates + reached * width),
        };
        samples * (through + u64::from(count) * width * self.cell.flops()[1])
    }

    fn details(&self) -> String {
        let rank = match self.through {
            StateWeight::Whole(_) => String::new(),
            StateWeight::Factored { p, .. } => format!(" r={}", p.cols()),
        };
        let window = self.window.map_or(String::new(), |window| format!(" window {window}"));
        format!("{} {}{rank}{window}", self.cell.name(), self.steps.details())
    }
}
