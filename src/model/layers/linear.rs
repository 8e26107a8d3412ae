//! A weight with a bias, on every row or on what a window sees: what dense layers and convolutions have in common.

use super::Layer;
use crate::model::parameter::{Destination, FileSpec, ParameterSpec, Passage, Purpose, Start};
use crate::model::pass::{Pass, Placed};
use crate::ops::{Clear, ColumnSum, Epilogue, Gemm, Role, ShapeError, View, Window};

#[derive(Debug)]
pub(super) struct Linear {
    pub(super) inputs: u32,
    pub(super) outputs: u32,
    pub(super) window: Option<Window>,
    /// First values of weight and bias.
    pub(super) start: [Start; 2],
}

impl Linear {
    /// PyTorch's default: U(+-1 / sqrt(fan in)).
    pub(super) fn uniform(inputs: u32, taps: u32) -> [Start; 2] {
        [Start::Uniform(1.0 / (f64::from(inputs) * f64::from(taps)).sqrt()); 2]
    }

    fn taps(&self) -> u32 {
        self.window.map_or(1, |window| window.taps())
    }
}

impl Layer for Linear {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let Linear { inputs, outputs, window, start } = *self;
        let mut shape = vec![outputs, inputs];
        shape.extend(window.iter().flat_map(|window| window.kernel));
        let files = vec![FileSpec { name: "weight", row: 0, shape, taps: self.taps(), start: start[0] }];
        let passage = Some(Passage { part: "", feedback: "feedback", window, to: Destination::Input });
        let cols = self.taps() * inputs;
        let weight = ParameterSpec { name: "weight", rows: outputs, cols, purpose: Purpose::Learned, files, passage };
        vec![weight, ParameterSpec::row("bias", outputs, start[1])]
    }

    fn forward(&self, pass: &mut Pass<'_>, at: &Placed) -> Result<View, ShapeError> {
        let [weight, bias] = [&at.parameters[0], &at.parameters[1]];
        let (x, out) = (pass.input(at), pass.make(at, "a"));
        let product = match self.window {
            Some(window) => Gemm::convolve(x, weight.value, out, window),
            None => Gemm::nt(x, weight.value, out),
        };
        let epilogue = Epilogue { bias: Some(bias.value), ..Epilogue::default() };
        pass.rec.push(Gemm { epilogue, half: pass.settings.precision.values(), ..product })?;
        Ok(out)
    }

    fn backward(&self, pass: &mut Pass<'_>, at: &Placed, error: View) -> Result<Vec<View>, ShapeError> {
        let (weight, bias) = (at.parameters[0].learned(), at.parameters[1].learned());
        if pass.learns(at) {
            let (input, half) = (pass.input(at), pass.half_of_errors());
            let rec = &mut *pass.rec;
            rec.role(Role::WeightGradient);
            let product = match self.window {
                Some(window) => Gemm::correlate(error, input, weight.gradient, window),
                None => Gemm::tn(error, input, weight.gradient),
            };
            rec.push(Gemm { half, accumulate: rec.has_written(weight.gradient), ..product })?;
            let ignored = at.ignored_shift.clone().unwrap_or(0..0);
            if ignored != (0..self.outputs) {
                let accumulate = rec.has_written(bias.gradient);
                rec.push(ColumnSum { x: error, out: bias.gradient, accumulate })?;
            }
            if !ignored.is_empty() && ignored != (0..self.outputs) {
                let (first, count) = (ignored.start, ignored.end - ignored.start);
                rec.push(Clear { out: bias.gradient.columns(first, count) })?;
            }
        }
        match &at.parameters[0].weight {
            Some(weight) => Ok(pass.send(weight)?.into_iter().collect()),
            None => Ok(Vec::new()),
        }
    }

    fn gives_outputs(&self) -> bool {
        self.window.is_none()
    }
}
