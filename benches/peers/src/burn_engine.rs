//! burn on its wgpu backend.

use burn::cubecl::Device as CubeDevice;
use burn::cubecl::device::WgpuDeviceKind;
use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::adapter::Adapter;
use crate::engine::{Engine, EngineError};
use crate::product::{Product, UNITS};
use crate::workload::{BETAS, EPSILON, Layer, RATE, Workload};

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

/// The network as a module of burn: convolutions, if any, then dense layers.
#[derive(Module, Debug)]
struct Net {
    convolutions: Vec<Conv2d>,
    pool: MaxPool2d,
    dense: Vec<Linear>,
}

impl Net {
    fn new(layers: &[Layer], device: &Device) -> Net {
        let bias = |layer: &Layer| Some(Param::from_data(TensorData::new(layer.bias.clone(), [layer.outputs]), device));
        let dense = |layer: &Layer| Linear {
            weight: Param::from_data(TensorData::new(layer.weight_by_input(), [layer.inputs, layer.outputs]), device),
            bias: bias(layer),
        };
        let convolution = |layer: &Layer, kernel: [usize; 2]| {
            let config = Conv2dConfig::new([layer.inputs, layer.outputs], kernel);
            let mut made = config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device);
            let shape = [layer.outputs, layer.inputs, kernel[0], kernel[1]];
            made.weight = Param::from_data(TensorData::new(layer.weight_by_channel(), shape), device);
            made.bias = bias(layer);
            made
        };
        Net {
            convolutions: layers.iter().filter_map(|l| l.kernel.map(|kernel| convolution(l, kernel))).collect(),
            pool: MaxPool2dConfig::new([2, 2]).init(),
            dense: layers.iter().filter(|l| l.kernel.is_none()).map(dense).collect(),
        }
    }

    /// Logits, rows x classes.
    fn forward(&self, inputs: Tensor<4>) -> Tensor<2> {
        let image = self.convolutions.iter().enumerate().fold(inputs, |h, (at, layer)| {
            let h = relu(layer.forward(h));
            if at % 2 == 1 { self.pool.forward(h) } else { h }
        });
        let last = self.dense.len() - 1;
        self.dense.iter().enumerate().fold(image.flatten(1, 3), |h, (at, layer)| {
            let a = layer.forward(h);
            if at == last { a } else { relu(a) }
        })
    }
}

/// A network in training.
pub(crate) struct Training {
    device: Device,
    /// Taken out during a step, since burn's optimizer consumes the module.
    model: Option<Net>,
    optimizer: ModuleOptimizer,
    criterion: CrossEntropyLoss,
    inputs: Tensor<4>,
    labels: Tensor<1, Int>,
    loss: Option<Tensor<1>>,
}

impl Training {
    /// Uploads first values and batch.
    pub(crate) fn new(device: &Device, workload: &Workload) -> Training {
        let device = device.clone().autodiff();
        let labels: Vec<i32> = workload.labels.iter().map(|&label| label as i32).collect();
        let [height, width, channels] = workload.model.image();
        let shape = [workload.model.batch(), channels, height, width];
        // The inputs need no gradient, so they stay outside of autodiff.
        let plain = device.clone().without_autodiff();
        Training {
            model: Some(Net::new(&workload.layers, &device)),
            optimizer: AdamConfig::new()
                .with_beta_1(BETAS[0] as f32)
                .with_beta_2(BETAS[1] as f32)
                .with_epsilon(EPSILON as f32)
                .init(),
            criterion: CrossEntropyLossConfig::new().init(&device),
            inputs: Tensor::from_data(TensorData::new(workload.inputs_by_channel(), shape), &device),
            labels: Tensor::from_data(TensorData::new(labels, [shape[0]]), &device),
            loss: None,
            device: plain,
        }
    }
}

impl Engine for Training {
    fn advance(&mut self) -> Result<(), EngineError> {
        let Some(model) = self.model.take() else {
            return Err(EngineError::Failed("an earlier step did not finish".into()));
        };
        let loss = self.criterion.forward(model.forward(self.inputs.clone()), self.labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(RATE, model, gradients));
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
