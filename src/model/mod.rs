//! Networks: layers as a configuration names them, and the operations that they become.

mod allocation;
mod cost;
mod diagnosis;
mod feed;
mod graph;
mod init;
pub mod layers;
mod network;
mod parameter;
mod pass;
mod pathways;
mod probe;
mod spec;

pub use cost::{LayerCost, OtherCost, OtherKind, StepCost, break_even, layer_costs, step_cost};
pub use diagnosis::{Diagnosis, LayerError};
pub use feed::{DataFeed, Feed, FeedSpec};
pub use graph::{Extent, activations, widest};
pub use init::{factorise, initialise, normal, pad_columns};
pub use layers::{LayerSpec, recurs, sending, weighted};
pub use network::{Network, NetworkSpec};
pub use parameter::{Exchange, Feedback, Parameter, Purpose, Start, Weight};
pub use probe::{Gradient, Probe, Value};
pub use spec::{Loss, ModelError, Precision, Sides, Targets};
