//! Cells that go through a sequence and keep a state.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::linear::Linear;
use super::{Describe, Input, Layer};
use crate::feedback::Pathway;
use crate::model::graph::Extent;
use crate::model::parameter::{Destination, FileSpec, ParameterSpec, Passage, Purpose, Weight};
use crate::model::pass::{Pass, Placed};
use crate::ops::{
    Cell, Clear, ColumnSum, Epilogue, Gemm, PlaceRows, Recurrence, RecurrenceBackward, Role, ShapeError, StateWeight,
    Steps, View,
};

/// A cell that goes through the positions of a sample in their order, from a state of zeros; its states are the output. Equations,
/// order of the gates and names are those of PyTorch's `RNN`, `GRU` and `LSTM`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent {
    /// How a state follows from the one before.
    pub cell: Cell,
    /// Width of the state.
    pub out: u32,
    /// Steps that an error goes back at most; all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
}

impl Describe for Recurrent {
    fn place(&self, inputs: &[Extent]) -> Result<(Arc<dyn Layer>, Extent), String> {
        let &Recurrent { cell, out, window } = self;
        if out == 0 {
            return Err("recurrent needs out of at least 1".into());
        }
        if window == Some(0) {
            return Err(
                "recurrent with window = 0: an error goes back one step at least; leave it out to go back all".into()
            );
        }
        let (inputs, length) = (inputs[0], inputs[0].pixels());
        let layer = Cells { cell, inputs: inputs.channels, width: out, length, window };
        Ok((Arc::new(layer), Extent { channels: out, ..inputs }))
    }

    fn wants(&self) -> Option<Input> {
        Some(Input::Pixels)
    }

    fn outputs(&self) -> Option<u32> {
        Some(self.out)
    }

    fn has_state(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Cells {
    cell: Cell,
    inputs: u32,
    width: u32,
    length: u32,
    window: Option<u32>,
}

/// Positions among the parameters.
const WEIGHT_IH: usize = 0;
const WEIGHT_HH: usize = 1;
const BIAS_IH: usize = 2;
const BIAS_HH: usize = 3;

impl Cells {
    fn gates(&self) -> u32 {
        self.cell.gates() * self.width
    }

    /// The state before every step, zeros before the first.
    fn before(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let (states, out) = (pass.output(at), pass.make(at, "before"));
        if self.length == 1 {
            pass.rec.push(Clear { out })?;
        } else {
            let x = states.by_rows(self.length).rows_from(0, self.length - 1);
            pass.rec.push(PlaceRows { x, out, first: 1, fill: None })?;
        }
        Ok(out)
    }

    /// What errors go through to the state before.
    fn through(&self, pass: &mut Pass<'_>, weight: &Weight, rows: u32) -> StateWeight {
        match weight.pathway() {
            Some(Pathway::Factored { p, q, .. }) => {
                StateWeight::Factored { p, q, y: pass.rec.scratch("y_state", rows, p.cols()) }
            }
            Some(Pathway::Random(matrix)) => StateWeight::Whole(matrix),
            Some(Pathway::Exact) | None => StateWeight::Whole(weight.learned.value),
        }
    }
}

/// What operations of the input's weight and of the state's are counted under.
fn names(at: &Placed) -> [String; 2] {
    let mut names = at.weights().map(|weight| weight.name.clone());
    [names.next().unwrap_or_default(), names.next().unwrap_or_default()]
}

impl Layer for Cells {
    fn is_activation(&self) -> bool {
        true
    }

    fn widest(&self, made: u32) -> u32 {
        made.max(self.gates()).max(self.cell.saved() * self.width)
    }

    fn shown_position(&self, extent: Extent) -> u32 {
        extent.pixels() - 1
    }

    fn steps(&self) -> u32 {
        self.length
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        // PyTorch's: all of them U(+-1 / sqrt(width)).
        let [start, _] = Linear::uniform(self.width, 1);
        let gates = self.gates();
        let weight = |name, part, feedback, to, cols| {
            let files = vec![FileSpec { name, row: 0, shape: vec![gates, cols], taps: 1, start }];
            let passage = Some(Passage { part, feedback, window: None, to });
            ParameterSpec { name, rows: gates, cols, purpose: Purpose::Learned, files, passage }
        };
        vec![
            weight("weight_ih", "ih", "feedback_ih", Destination::Input, self.inputs),
            weight("weight_hh", "hh", "feedback_hh", Destination::State, self.width),
            ParameterSpec::row("bias_ih", gates, start),
            ParameterSpec::row("bias_hh", gates, start),
        ]
    }

    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let [of_input, weight, bias_ih, bias] =
            [WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH].map(|which| at.parameters[which].value);
        let (x, out) = (pass.input(at), pass.make(at, "states"));
        let [ih, hh] = names(at);
        pass.rec.layer(ih);
        let a = pass.rec.scratch("a", x.rows(), self.gates());
        let epilogue = Epilogue { bias: Some(bias_ih), ..Epilogue::default() };
        let half = pass.settings.precision.values();
        pass.rec.push(Gemm { epilogue, half, ..Gemm::nt(x, of_input, a) })?;
        pass.rec.layer(hh);
        let kept = self.cell.saved() * self.width;
        let saved = (kept > 0).then(|| pass.rec.scratch("kept", x.rows(), kept));
        let steps = Steps::all(self.length);
        pass.rec.push(Recurrence { a, weight, bias, out, saved, cell: self.cell, steps })?;
        pass.save(saved.unwrap_or(out));
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let Some(hh) = &at.parameters[WEIGHT_HH].weight else { return Ok(Vec::new()) };
        let (rows, samples) = (error.rows(), pass.samples);
        pass.rec.layer(hh.name.clone());
        pass.rec.role(Role::Transport);
        let gates = pass.rec.scratch("delta", rows, self.gates());
        let hidden = (self.cell == Cell::Gru).then(|| pass.rec.scratch("delta_state", rows, self.gates()));
        let carried = (self.cell != Cell::Rnn).then(|| pass.rec.scratch("carried", samples, self.width));
        let through = self.through(pass, hh, rows);
        // The bound belongs to errors that are sent by other means than the derivative.
        let is_exact = matches!(hh.pathway(), Some(Pathway::Exact) | None);
        let back = RecurrenceBackward {
            error,
            saved: pass.saved(at)[0],
            gates,
            hidden,
            carried,
            through,
            clamp: pass.settings.error_clamp.filter(|_| !is_exact),
            window: self.window,
            cell: self.cell,
            steps: Steps::all(self.length),
        };
        pass.rec.push(back)?;
        let y = match through {
            StateWeight::Factored { y, .. } => Some(y),
            StateWeight::Whole(_) => None,
        };
        let (input, half, sent) = (pass.input(at), pass.half_of_errors(), back.sent());
        pass.rec.role(Role::WeightGradient);
        let before = self.before(pass, at)?;
        pass.note_errors(at, vec![[gates, input], [sent, before]]);
        if pass.learns(at) {
            let of_input = (gates, input, WEIGHT_IH, BIAS_IH);
            for ((error, input, weight, bias), name) in
                [of_input, (sent, before, WEIGHT_HH, BIAS_HH)].into_iter().zip(names(at))
            {
                pass.rec.layer(name);
                let [weight, bias] = [weight, bias].map(|which| at.parameters[which].learned().gradient);
                let rec = &mut *pass.rec;
                let accumulate = rec.has_written(weight);
                rec.push(Gemm { half, accumulate, ..Gemm::tn(error, input, weight) })?;
                let accumulate = rec.has_written(bias);
                rec.push(ColumnSum { x: error, out: bias, accumulate })?;
            }
        }
        pass.note_sent(hh, sent, y, before);
        match &at.parameters[WEIGHT_IH].weight {
            Some(weight) if at.passes_error => {
                pass.rec.layer(weight.name.clone());
                Ok(pass.send(weight)?.into_iter().collect())
            }
            _ => Ok(Vec::new()),
        }
    }
}
