//! How P and Q learn: a file a rule, and a line here.
//!
//! A rule writes operations in two places. `observe` stands behind the errors of every micro-batch and forms sums over its
//! samples, which add up over micro-batches and devices. `learn` stands at the head of the update and makes the gradient from
//! those sums, or from the weight, once a step and from values before the step.

mod fixed;
mod hebbian;
mod kolen_pollack;
mod normative;
mod oja;

use serde::{Deserialize, Serialize};

use crate::ops::{Recording, ShapeError, View, Window};
use crate::optim::Learned;

/// What one use of a weight by a micro-batch shows its rules.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The error that was sent, rows x m.
    pub source: View,
    /// Its projection by p, rows x r.
    pub y: View,
    /// What the Oja rule learns from, rows x m: usually the error that was sent.
    pub statistics: View,
    /// The layer's input h, rows x k; of a convolution pixels x k.
    pub input: View,
    /// How a convolution moves over its input.
    pub window: Option<Window>,
}

/// One of the two factors as its rule finds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Learning {
    /// P^T, m x r.
    pub(super) p: View,
    /// Q^T, r x k.
    pub(super) q: View,
    /// The weight that both stand in for.
    pub(super) weight: Learned,
    /// Where the factor's gradient goes.
    pub(super) gradient: View,
}

/// How a factor learns.
pub(super) trait Rule {
    /// Whether it reads the weight, so that errors taken elsewhere give it nothing to learn.
    fn reads_weight(&self) -> bool {
        false
    }

    /// Writes what it takes from a micro-batch; `so_far` is what it returned for the ones before.
    fn observe(
        &self,
        _rec: &mut Recording,
        _learning: &Learning,
        _seen: &Seen,
        _so_far: Option<View>,
    ) -> Result<Option<View>, ShapeError> {
        Ok(None)
    }

    /// Writes what is left to do once a step; `so_far` is what observing has left, of so many rows.
    fn learn(
        &self,
        _rec: &mut Recording,
        _learning: &Learning,
        _so_far: Option<(View, u32)>,
    ) -> Result<(), ShapeError> {
        Ok(())
    }
}

/// The rules of one factor: names as files have them, and what they do.
macro_rules! rules {
    ($(#[$doc:meta])* $factor:ident { $($(#[$about:meta])* $variant:ident $name:literal = $rule:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $factor {
            $($(#[$about])* #[serde(rename = $name)] $variant,)*
        }

        impl $factor {
            /// All of them.
            pub const ALL: &[$factor] = &[$($factor::$variant),*];

            /// The name that configurations use.
            pub fn name(self) -> &'static str {
                match self {
                    $($factor::$variant => $name,)*
                }
            }

            pub(super) fn rule(self) -> &'static dyn Rule {
                match self {
                    $($factor::$variant => &$rule,)*
                }
            }
        }
    };
}

rules! {
    /// How P learns.
    PRule {
        /// It does not.
        Fixed "fixed" = fixed::Fixed,
        /// Q^T (Q P - W^T): reads W.
        Normative "normative" = normative::OfP,
        /// Principal subspace of the error: local.
        Oja "oja" = oja::Oja,
        /// Q^T (grad W)^T, the gradient of the weight it stands in for.
        KolenPollack "kolen-pollack" = kolen_pollack::KolenPollack,
    }
}

rules! {
    /// How Q learns.
    QRule {
        /// It does not.
        Fixed "fixed" = fixed::Fixed,
        /// (Q P - W^T) P^T: reads W.
        Normative "normative" = normative::OfQ,
        /// h^T y: local.
        Hebbian "hebbian" = hebbian::Hebbian,
    }
}
