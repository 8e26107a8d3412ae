//! Networks: layers as a configuration names them, and the operations that they become.

mod backward;
mod cost;
mod diagnosis;
mod exchange;
mod feed;
mod forward;
mod graph;
mod init;
mod network;
mod pathways;
mod probe;
mod spec;

pub use cost::{LayerCost, break_even, layer_costs};
pub use diagnosis::{Diagnosis, LayerError};
pub use exchange::Exchange;
pub use feed::{DataFeed, Feed, FeedSpec};
pub use graph::{Extent, activations, widest};
pub use init::{factorise, initialise};
pub(crate) use init::{normal, pad_columns};
pub use network::{LinearLayer, Network, NetworkSpec};
pub use probe::{Gradient, Probe, Value};
pub use spec::{LayerSpec, Loss, ModelError, Precision, Sides, weighted};
