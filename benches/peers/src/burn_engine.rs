//! burn on its wgpu backend.

use burn::cubecl::Device as CubeDevice;
use burn::cubecl::device::WgpuDeviceKind;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ldfa_gpu::ops::Update;
use ldfa_gpu::optim::OptimizerSpec;

use crate::adapter::Adapter;
use crate::burn_networks::Classifier;
use crate::engine::{Engine, EngineError};
use crate::product::{Product, UNITS};
use crate::workload::Workload;

/// A burn device on the adapter, and what burn calls the runtime: `wgpu<spirv>` or `wgpu<wgsl>`.
///
/// burn counts adapters of one kind on one graphics API.
pub(crate) fn open(adapter: &Adapter) -> Result<(Device, &'static str), EngineError> {
    let at = adapter.position_in_kind;
    let kind = match adapter.info.device_type {
        wgpu::DeviceType::DiscreteGpu => WgpuDeviceKind::DiscreteGpu(at),
        wgpu::DeviceType::IntegratedGpu => WgpuDeviceKind::IntegratedGpu(at),
        wgpu::DeviceType::VirtualGpu => WgpuDeviceKind::VirtualGpu(at),
        wgpu::DeviceType::Cpu => WgpuDeviceKind::Cpu,
        wgpu::DeviceType::Other => WgpuDeviceKind::Other(at),
    };
    let device = match adapter.info.backend {
        wgpu::Backend::Vulkan => CubeDevice::vulkan(kind),
        wgpu::Backend::Dx12 => CubeDevice::dx12(kind),
        _ => CubeDevice::wgpu(kind),
    }
    .map_err(EngineError::of)?;
    let client = device.client();
    let name = &client.properties().identity.name;
    if *name != adapter.info.name {
        return Err(EngineError::Wrong(format!("it opened {name} instead of {}", adapter.info.name)));
    }
    Ok((Device::new(device), client.name()))
}

/// A network in training.
pub(crate) struct Training<N> {
    device: Device,
    /// Taken out during a step, since burn's optimizer consumes the module.
    network: Option<N>,
    optimizer: ModuleOptimizer,
    rate: f64,
    criterion: CrossEntropyLoss,
    inputs: Tensor<4>,
    labels: Tensor<1, Int>,
    loss: Option<Tensor<1>>,
}

impl<N: Classifier> Training<N> {
    /// Uploads first values and batch.
    pub(crate) fn new(
        device: &Device,
        workload: &Workload,
        make: impl FnOnce(&Workload, &Device) -> Result<N, EngineError>,
    ) -> Result<Training<N>, EngineError> {
        let device = device.clone().autodiff();
        let labels: Vec<i32> = workload.labels.iter().map(|&label| label as i32).collect();
        let [height, width, channels] = workload.model.image();
        let shape = [labels.len(), channels, height, width];
        // The inputs need no gradient, so they stay outside of autodiff.
        let plain = device.clone().without_autodiff();
        Ok(Training {
            network: Some(make(workload, &device)?),
            optimizer: optimizer(&workload.spec.optimizer)?,
            rate: workload.spec.optimizer.lr,
            criterion: CrossEntropyLossConfig::new().init(&device),
            inputs: Tensor::from_data(TensorData::new(workload.inputs_by_channel(), shape), &device),
            labels: Tensor::from_data(TensorData::new(labels, [shape[0]]), &device),
            loss: None,
            device: plain,
        })
    }
}

/// burn's Adam or AdamW with this repository's settings.
fn optimizer(spec: &OptimizerSpec) -> Result<ModuleOptimizer, EngineError> {
    let Update::Adam { betas: (beta1, beta2), epsilon, decoupled, .. } = spec.update() else {
        return Err(EngineError::Wrong(format!("it is set up for adam and adamw only, not for {:?}", spec.algorithm)));
    };
    let (beta1, beta2, epsilon) = (beta1 as f32, beta2 as f32, epsilon as f32);
    Ok(if decoupled {
        let config = AdamWConfig::new().with_beta_1(beta1).with_beta_2(beta2).with_epsilon(epsilon);
        config.with_weight_decay(spec.decay() as f32).init()
    } else {
        AdamConfig::new().with_beta_1(beta1).with_beta_2(beta2).with_epsilon(epsilon).init()
    })
}

impl<N: Classifier> Engine for Training<N> {
    fn advance(&mut self) -> Result<(), EngineError> {
        let Some(network) = self.network.take() else {
            return Err(EngineError::Failed("an earlier step did not finish".into()));
        };
        let loss = self.criterion.forward(network.forward(self.inputs.clone()), self.labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        self.network = Some(self.optimizer.step(self.rate, network, gradients));
        self.loss = Some(loss.without_autodiff());
        self.device.sync().map_err(EngineError::of)
    }

    fn observe(&mut self) -> Result<f64, EngineError> {
        let Some(loss) = self.loss.clone() else {
            return Err(EngineError::Failed("no step was taken yet".into()));
        };
        loss.try_into_scalar::<f32>().map(f64::from).map_err(|e| EngineError::Failed(format!("{e:?}")))
    }
}

/// Factors of a product, and the latest products.
pub(crate) struct Multiplication {
    device: Device,
    a: Tensor<2>,
    b: Tensor<2>,
    /// Kept until the device is done, so that none of them can be skipped.
    out: Vec<Tensor<2>>,
    product: Product,
}

impl Multiplication {
    /// Uploads the factors.
    pub(crate) fn new(device: &Device, product: Product) -> Multiplication {
        let matrix = |values: Vec<f32>, rows, cols| Tensor::from_data(TensorData::new(values, [rows, cols]), device);
        let (b_rows, b_cols) =
            if product.transposed { (product.cols, product.inner) } else { (product.inner, product.cols) };
        let (a, b) = (matrix(product.a(), product.rows, product.inner), matrix(product.b(), b_rows, b_cols));
        Multiplication { device: device.clone(), a, b, out: Vec::new(), product }
    }
}

impl Engine for Multiplication {
    fn units(&self) -> usize {
        UNITS
    }

    fn advance(&mut self) -> Result<(), EngineError> {
        self.out.clear();
        for _ in 0..UNITS {
            let b = if self.product.transposed { self.b.clone().transpose() } else { self.b.clone() };
            self.out.push(self.a.clone().matmul(b));
        }
        self.device.sync().map_err(EngineError::of)
    }

    fn observe(&mut self) -> Result<f64, EngineError> {
        let Some(out) = self.out.last() else {
            return Err(EngineError::Failed("nothing was multiplied yet".into()));
        };
        let data = out.clone().try_into_data().map_err(|e| EngineError::Failed(format!("{e:?}")))?;
        let values = data.try_to_vec::<f32>().map_err(|e| EngineError::Failed(format!("{e:?}")))?;
        Ok(self.product.project(values.into_iter().map(f64::from)))
    }
}
