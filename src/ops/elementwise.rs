//! Operations on single elements: activations, their gates, dropout, sums.

use std::fmt;

use super::{Operand, Operation, View, read, require, write};

/// A nonlinearity f.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// max(x, 0), with f'(0) = 0.
    Relu,
    /// x Phi(x), the exact form with erf.
    Gelu,
    /// tanh(x).
    Tanh,
}

/// Which tensor an activation's derivative is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saves {
    /// f(x): its input need not be kept, so the activation can be fused into what computes x.
    Output,
    /// x.
    Input,
}

impl Activation {
    /// Which tensor the backward pass needs.
    pub fn saves(self) -> Saves {
        match self {
            Activation::Relu | Activation::Tanh => Saves::Output,
            Activation::Gelu => Saves::Input,
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Activation::Relu => "relu",
            Activation::Gelu => "gelu",
            Activation::Tanh => "tanh",
        })
    }
}

/// `out = f(x)`.
#[derive(Clone, Copy, Debug)]
pub struct Activate {
    /// Argument.
    pub x: View,
    /// Result, of x's shape.
    pub out: View,
    /// Which function.
    pub f: Activation,
}

impl Operation for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        require(self.x.shape == self.out.shape, "x and out must have one shape")
    }

    fn flops(&self) -> u64 {
        self.out.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        self.f.to_string()
    }
}

/// `out = x . f'`: the exact derivative of an activation applied to the error above it.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// dL/df.
    pub x: View,
    /// What the activation [saves](Activation::saves).
    pub saved: View,
    /// dL/d(argument of f).
    pub out: View,
    /// Which function.
    pub f: Activation,
}

impl Operation for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), read("saved", self.saved), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        require(
            self.x.shape == self.out.shape && self.saved.shape == self.out.shape,
            "x, saved and out must have one shape",
        )
    }

    fn flops(&self) -> u64 {
        self.out.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        format!("{}'", self.f)
    }
}

/// `out = x . mask / (1 - drop)`, the mask drawn from (seed, step, element, stream); the same mask forward and back.
///
/// Elements that lie side by side may be kept or dropped together: group g of them takes the draw of element g.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Activations, or the error on its way back.
    pub x: View,
    /// Result, of x's shape.
    pub out: View,
    /// Probability of dropping an element, 0 <= drop < 1.
    pub drop: f64,
    /// Tells the dropout layers of one network apart.
    pub stream: u32,
    /// Elements that share a draw: 1, or all of a sample.
    pub together: u32,
}

impl Operation for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        require(self.x.shape == self.out.shape, "x and out must have one shape")?;
        require((0.0..1.0).contains(&self.drop), "the probability of dropping must lie in [0, 1)")?;
        let is_whole = self.together > 0 && self.out.shape.per_replica().is_multiple_of(self.together as usize);
        require(is_whole, "elements that share a draw must be whole groups of one or more")
    }

    fn flops(&self) -> u64 {
        self.out.shape.per_replica() as u64
    }

    fn details(&self) -> String {
        let together = if self.together == 1 { String::new() } else { format!(", {} together", self.together) };
        format!("p={}{together}", self.drop)
    }
}

/// `out = a + b`: where two paths of a network meet.
#[derive(Clone, Copy, Debug)]
pub struct Add {
    /// First term.
    pub a: View,
    /// Second term, of a's shape.
    pub b: View,
    /// Result, of a's shape.
    pub out: View,
}

impl Operation for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("a", self.a), read("b", self.b), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        require(self.a.shape == self.out.shape && self.b.shape == self.out.shape, "a, b and out must have one shape")
    }

    fn flops(&self) -> u64 {
        self.out.shape.per_replica() as u64
    }
}

/// `out = x` if x is distinguishable from zero, else 0: ||x|| > 16 epsilon ||scale||, epsilon = 2^-24.
///
/// x is the difference of two nearly equal matrices of the size of `scale`. Where they cancel to single precision, as
/// the normative gradient does right after a factorisation, what is left is rounding; Adam would blow it up to a full
/// step in a random direction, and every adapter to another one.
#[derive(Clone, Copy, Debug)]
pub struct Significant {
    /// The difference.
    pub x: View,
    /// One of the two, of x's shape.
    pub scale: View,
    /// Result, of x's shape.
    pub out: View,
}

impl Significant {
    /// Least ratio of the norms.
    pub const THRESHOLD: f64 = 16.0 / (1u32 << 24) as f64;
}

impl Operation for Significant {
    fn name(&self) -> &'static str {
        "significant"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![read("x", self.x), read("scale", self.scale), write("out", self.out)]
    }

    fn check(&self) -> Result<(), String> {
        require(
            self.x.shape == self.out.shape && self.scale.shape == self.out.shape,
            "x, scale and out must have one shape",
        )
    }

    fn flops(&self) -> u64 {
        5 * self.out.shape.per_replica() as u64
    }
}
