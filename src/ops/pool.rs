//! Pooling: what a window sees of each channel, in one number.

use super::elementwise::Activation;
use super::{Dtype, Operand, Operation, View, Window, read, require, write};

/// The rule that pixels (of batch images) and positions break, if any.
fn check_pool(pixels: View, positions: View, window: &Window) -> Result<(), String> {
    window.check()?;
    let is_half = |axis: usize| window.padding[axis] <= window.kernel[axis] / 2;
    require(is_half(0) && is_half(1), "the padding of a pool may be at most half of its kernel")?;
    require(pixels.cols() == positions.cols(), "pixels and positions must have the same channels")?;
    let batch = pixels.rows() / window.pixels();
    require(
        pixels.rows().is_multiple_of(window.pixels())
            && u64::from(positions.rows()) == u64::from(batch) * u64::from(window.positions()),
        "for as many images, rows must be (batch pixels) on one side and (batch positions) on the other",
    )
}

/// `out = max x` over every window, channel by channel, and where it was found.
///
/// As PyTorch does it: the padding never wins, of equal values the first in the order of the taps, and of NaNs the last,
/// before any number.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    /// Images, (batch pixels) x channels.
    pub x: View,
    /// (batch positions) x channels.
    pub out: View,
    /// u32, of out's shape: the tap `ky * kernel width + kx` that won.
    pub winners: View,
    /// What the maximum is taken over.
    pub window: Window,
}

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), write("out", self.out), write("winners", self.winners)]
    }

    fn check(&self) -> Result<(), String> {
        check_pool(self.x, self.out, &self.window)?;
        require(self.winners.shape == self.out.shape, "out and winners must have one shape")?;
        require(self.winners.dtype == Dtype::U32, "winners must be words")
    }

    fn flops(&self) -> u64 {
        u64::from(self.window.taps()) * self.out.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        self.window.to_string()
    }
}

/// What follows a pool on its way back where its input came from an activation: `. f'`, the derivative taken from what the
/// activation [saves](Activation::saves).
type Gated = Option<(Activation, View)>;

fn check_gate(gate: Gated, out: View) -> Result<(), String> {
    require(gate.is_none_or(|(_, saved)| saved.shape == out.shape), "saved must have the shape of out")
}

fn gated(window: &Window, gate: Gated) -> String {
    gate.map_or(window.to_string(), |(f, _)| format!("{window} gate {f}'"))
}

/// Max pooling's exact derivative: every pixel gets the errors of the windows that it won.
#[derive(Clone, Copy, Debug)]
pub struct MaxPoolBackward {
    /// dL/dout, (batch positions) x channels.
    pub error: View,
    /// From [`MaxPool`].
    pub winners: View,
    /// dL/dx, (batch pixels) x channels.
    pub out: View,
    /// That of the pool.
    pub window: Window,
    /// `. f'`, and what it is taken from, (batch pixels) x channels.
    pub gate: Option<(Activation, View)>,
}

impl Operation for MaxPoolBackward {
    fn name(&self) -> &'static str {
        "max-pool-backward"
    }

    fn operands(&self) -> Vec<Operand> {
        // A shader binds a tensor as written or as read under one name, so the winners have another one here.
        vec![read("error", self.error), read("won", self.winners), write("out", self.out)]
            .into_iter()
            .chain(self.gate.map(|(_, saved)| read("saved", saved)))
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        check_pool(self.out, self.error, &self.window)?;
        check_gate(self.gate, self.out)?;
        let (rows, cols) = (self.error.rows(), self.error.cols());
        require((self.winners.rows(), self.winners.cols()) == (rows, cols), "error and won must have one shape")?;
        require(self.winners.dtype == Dtype::U32, "won must be words")
    }

    fn flops(&self) -> u64 {
        let gate = if self.gate.is_some() { self.out.shape.per_replica() as u64 } else { 0 };
        self.error.shape.per_replica() as u64 + gate
    }

    fn details(&self) -> String {
        gated(&self.window, self.gate)
    }
}

/// `out = mean x` over every window, channel by channel; the padding counts, as zeros. A window as large as the image is
/// global average pooling.
#[derive(Clone, Copy, Debug)]
pub struct AveragePool {
    /// Images, (batch pixels) x channels.
    pub x: View,
    /// (batch positions) x channels.
    pub out: View,
    /// What the mean is taken over.
    pub window: Window,
}

impl Operation for AveragePool {
    fn name(&self) -> &'static str {
        "average-pool"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        check_pool(self.x, self.out, &self.window)
    }

    fn flops(&self) -> u64 {
        u64::from(self.window.taps()) * self.out.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        self.window.to_string()
    }
}

/// Average pooling's exact derivative: every pixel gets its share of the errors of the windows that see it.
#[derive(Clone, Copy, Debug)]
pub struct AveragePoolBackward {
    /// dL/dout, (batch positions) x channels.
    pub error: View,
    /// dL/dx, (batch pixels) x channels.
    pub out: View,
    /// That of the pool.
    pub window: Window,
    /// `. f'`, and what it is taken from, (batch pixels) x channels.
    pub gate: Option<(Activation, View)>,
}

impl Operation for AveragePoolBackward {
    fn name(&self) -> &'static str {
        "average-pool-backward"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("error", self.error), write("out", self.out)]
            .into_iter()
            .chain(self.gate.map(|(_, saved)| read("saved", saved)))
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        check_pool(self.out, self.error, &self.window)?;
        check_gate(self.gate, self.out)
    }

    fn flops(&self) -> u64 {
        let gate = if self.gate.is_some() { self.out.shape.per_replica() as u64 } else { 0 };
        u64::from(self.window.taps()) * self.error.shape.per_replica() as u64 + gate
    }

    fn details(&self) -> String {
        gated(&self.window, self.gate)
    }
}
