//! meganeura on blade.

use std::sync::Arc;

use meganeura::{GpuOptions, Graph, Session, SessionConfig, build, init_gpu_context_with};

use crate::adapter::Adapter;
use crate::engine::{Engine, EngineError};
use crate::workload::{BETAS, CLASSES, EPSILON, Model, RATE, WIDTHS, Workload};

/// A network in training.
pub(crate) struct Training {
    session: Session,
}

impl Training {
    /// Compiles the graph, and where `tuned`, lets meganeura choose the tiles of its products by timing them.
    pub(crate) fn new(adapter: &Adapter, workload: &Workload, tuned: bool) -> Result<Training, EngineError> {
        let options = GpuOptions { device_id: Some(adapter.info.device), timing: false };
        let gpu = init_gpu_context_with(options).map_err(|e| EngineError::Failed(format!("{e:?}")))?;
        let config = SessionConfig { gpu: Some(Arc::new(gpu)), tune: tuned, ..SessionConfig::default() };
        let (mut session, _) = build(&graph(), config);
        let name = &session.device_information().device_name;
        if *name != adapter.info.name {
            return Err(EngineError::Wrong(format!("it opened {name} instead of {}", adapter.info.name)));
        }
        for (at, layer) in workload.layers.iter().enumerate() {
            session.set_parameter(&weight(at), &layer.weight_by_input());
            session.set_parameter(&bias(at), &layer.bias);
        }
        session.set_input("x", &workload.inputs);
        session.set_input("labels", &workload.one_hot());
        session.set_adam(RATE as f32, BETAS[0] as f32, BETAS[1] as f32, EPSILON as f32);
        Ok(Training { session })
    }
}

fn weight(at: usize) -> String {
    format!("layers.{at}.weight")
}

fn bias(at: usize) -> String {
    format!("layers.{at}.bias")
}

fn graph() -> Graph {
    let mut g = Graph::new();
    let batch = Model::Mlp.batch();
    let mut h = g.input("x", &[batch, WIDTHS[0]]);
    let labels = g.input("labels", &[batch, CLASSES]);
    for (at, pair) in WIDTHS.windows(2).enumerate() {
        if at > 0 {
            h = g.relu(h);
        }
        let w = g.parameter(&weight(at), &[pair[0], pair[1]]);
        let b = g.parameter(&bias(at), &[pair[1]]);
        let product = g.matmul(h, w);
        h = g.bias_add(product, b);
    }
    let loss = g.cross_entropy_loss(h, labels);
    g.set_outputs(vec![loss]);
    g
}

impl Engine for Training {
    fn advance(&mut self) -> Result<(), EngineError> {
        self.session.step();
        self.session.wait();
        Ok(())
    }

    fn observe(&mut self) -> Result<f64, EngineError> {
        Ok(f64::from(self.session.read_loss()))
    }
}
