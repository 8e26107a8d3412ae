//! Networks: layers as a configuration names them, and the operations that they become.

mod backward;
mod feed;
mod forward;
mod init;
mod network;
mod spec;

pub use feed::{DataFeed, Feed, FeedSpec};
pub(crate) use init::pad_columns;
pub use init::{factorise, initialise};
pub use network::{DenseLayer, Exchange, Network, NetworkSpec};
pub use spec::{LayerSpec, Loss, ModelError, Precision};
