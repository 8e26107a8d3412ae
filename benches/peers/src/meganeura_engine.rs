//! meganeura on blade.

use std::sync::Arc;

use ldfa_gpu::ops::Update;
use meganeura::{GpuOptions, Graph, Session, SessionConfig, build, init_gpu_context_with};

use crate::adapter::Adapter;
use crate::engine::{Engine, EngineError};
use crate::workload::{CLASSES, Workload};

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
        let (mut session, _) = build(&graph(workload)?, config);
        let name = &session.device_information().device_name;
        if *name != adapter.info.name {
            return Err(EngineError::Wrong(format!("it opened {name} instead of {}", adapter.info.name)));
        }
        for name in workload.weighted() {
            let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
            session.set_parameter(&weight, &workload.first_by_input(&weight)?.1);
            session.set_parameter(&bias, &workload.first(&bias)?.1);
        }
        session.set_input("x", &workload.inputs);
        session.set_input("labels", &workload.one_hot());
        let optimizer = &workload.spec.optimizer;
        let Update::Adam { betas: (beta1, beta2), epsilon, decoupled: false, .. } = optimizer.update() else {
            return Err(EngineError::Wrong(format!("it is set up for adam only, not for {:?}", optimizer.algorithm)));
        };
        session.set_adam(optimizer.lr as f32, beta1 as f32, beta2 as f32, epsilon as f32);
        Ok(Training { session })
    }
}

/// Dense layers with ReLU between them.
fn graph(workload: &Workload) -> Result<Graph, EngineError> {
    let mut g = Graph::new();
    let batch = workload.spec.batch as usize;
    let mut h = g.input("x", &[batch, workload.inputs.len() / batch]);
    let labels = g.input("labels", &[batch, CLASSES]);
    for (at, name) in workload.weighted().iter().enumerate() {
        if at > 0 {
            h = g.relu(h);
        }
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let ([inputs, outputs], _) = workload.first_by_input(&weight)?;
        let w = g.parameter(&weight, &[inputs, outputs]);
        let b = g.parameter(&bias, &[outputs]);
        let product = g.matmul(h, w);
        h = g.bias_add(product, b);
    }
    let loss = g.cross_entropy_loss(h, labels);
    g.set_outputs(vec![loss]);
    Ok(g)
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
