//! Layers as a graph: what follows what, and how large the images are in between.

use super::spec::{LayerSpec, ModelError, Sides};
use crate::ops::{Activation, Window};
use crate::optim::{LESS_THAN_ONE, single};

/// What one sample is between two layers: an image of so many pixels with so many channels each. A row of features is an
/// image of one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Rows of pixels.
    pub height: u32,
    /// Columns of pixels.
    pub width: u32,
    /// Numbers of a pixel.
    pub channels: u32,
}

impl Extent {
    /// A row of features.
    pub fn flat(features: u32) -> Extent {
        Extent { height: 1, width: 1, channels: features }
    }

    /// Rows that a sample takes in a tensor.
    pub fn pixels(self) -> u32 {
        self.height * self.width
    }

    /// Numbers of a sample.
    pub fn features(self) -> u32 {
        self.pixels() * self.channels
    }

    fn sides(self) -> [u32; 2] {
        [self.height, self.width]
    }

    fn of(sides: [u32; 2], channels: u32) -> Extent {
        Extent { height: sides[0], width: sides[1], channels }
    }
}

/// A layer without its tensors.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A weight with a bias; over the pixels that the window sees, if there is one.
    Linear(Option<Window>),
    BatchNorm,
    Activation(Activation),
    Dropout(f64),
    MaxPool(Window),
    AveragePool(Window),
    Flatten,
    /// The sum of both inputs.
    Add,
}

/// A layer in its place. Values are counted from the input of the network, 0; node i makes value i + 1.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// `layers.<index>`, `layers.<index>.main.<index>`, ...
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Values that it takes.
    pub(super) inputs: Vec<usize>,
    /// What it makes.
    pub(super) extent: Extent,
}

/// All layers, every one behind those whose values it takes.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub(super) input: Extent,
    pub(super) nodes: Vec<Node>,
}

impl Graph {
    /// `image` is height, width, channels of a sample. A network whose first layer of weights is dense takes images flat,
    /// pixel by pixel.
    ///
    /// # Errors
    /// Names the layer that cannot stand where it stands.
    pub(super) fn new(layers: &[LayerSpec], image: [u32; 3]) -> Result<Graph, ModelError> {
        let [height, width, channels] = image;
        let image = Extent { height, width, channels };
        let input = if takes_images(layers) { image } else { Extent::flat(image.features()) };
        let mut graph = Graph { input, nodes: Vec::new() };
        graph.append(layers, "layers", "model.layers", 0)?;
        Ok(graph)
    }

    /// Numbers of a sample in the widest place.
    pub(super) fn widest(&self) -> u32 {
        let values = 0..=self.nodes.len();
        values.map(|value| self.extent(value).features()).max().unwrap_or(1).max(1)
    }

    /// Extent of a value.
    pub(super) fn extent(&self, value: usize) -> Extent {
        value.checked_sub(1).map_or(self.input, |node| self.nodes[node].extent)
    }

    /// Whether anything learns on the way to each value.
    pub(super) fn learns(&self) -> Vec<bool> {
        let mut learns = vec![false];
        for node in &self.nodes {
            let own = matches!(node.kind, Kind::Linear(_) | Kind::BatchNorm);
            learns.push(own || node.inputs.iter().any(|&value| learns[value]));
        }
        learns
    }

    /// Adds layers behind a value; returns the last one's.
    fn append(&mut self, layers: &[LayerSpec], name: &str, key: &str, from: usize) -> Result<usize, ModelError> {
        let mut value = from;
        for (index, layer) in layers.iter().enumerate() {
            let (name, key) = (format!("{name}.{index}"), format!("{key}[{index}]"));
            let inputs = match layer {
                LayerSpec::Residual { layers, shortcut } => {
                    let main = self.append(layers, &format!("{name}.main"), &format!("{key}.layers"), value)?;
                    let shortcut =
                        self.append(shortcut, &format!("{name}.shortcut"), &format!("{key}.shortcut"), value)?;
                    vec![main, shortcut]
                }
                _ => vec![value],
            };
            let extents: Vec<Extent> = inputs.iter().map(|&value| self.extent(value)).collect();
            let (kind, extent) = place(layer, &extents).map_err(|problem| ModelError::Layer { layer: key, problem })?;
            self.nodes.push(Node { name, kind, inputs, extent });
            value = self.nodes.len();
        }
        Ok(value)
    }
}

/// Numbers that a sample has in the widest place of a network, its input included.
///
/// # Errors
/// Names the layer that cannot stand where it stands.
pub fn widest(layers: &[LayerSpec], image: [u32; 3]) -> Result<u32, ModelError> {
    Ok(Graph::new(layers, image)?.widest())
}

/// Names of the activations and of the last layer, from input to output.
///
/// # Errors
/// Names the layer that cannot stand where it stands.
pub fn activations(layers: &[LayerSpec], image: [u32; 3]) -> Result<Vec<String>, ModelError> {
    let graph = Graph::new(layers, image)?;
    let last = graph.nodes.len().saturating_sub(1);
    let nodes = graph.nodes.into_iter().enumerate();
    let chosen = nodes.filter(|(at, node)| *at == last || matches!(node.kind, Kind::Activation(_)));
    Ok(chosen.map(|(_, node)| node.name).collect())
}

/// Whether the first layer that cares takes pixels.
fn takes_images(layers: &[LayerSpec]) -> bool {
    for layer in layers {
        match layer {
            LayerSpec::Dense { .. } => return false,
            LayerSpec::BatchNorm {} | LayerSpec::Relu {} | LayerSpec::Gelu {} | LayerSpec::Dropout { .. } => {}
            LayerSpec::Residual { layers, shortcut } if layers.is_empty() && shortcut.is_empty() => {}
            LayerSpec::Residual { layers, shortcut } => return takes_images(layers) || takes_images(shortcut),
            _ => return true,
        }
    }
    false
}

/// Elements that a sample may have in a layer, so that all index arithmetic fits 32 bits.
const MOST_FEATURES: u64 = 1 << 28;

/// What a layer is behind what comes before it, and what it makes; else what is wrong.
fn place(layer: &LayerSpec, inputs: &[Extent]) -> Result<(Kind, Extent), String> {
    let input = inputs[0];
    let window = |size: Sides, stride: Sides, padding: Sides| {
        Window::new(input.sides(), size.pair(), stride.pair(), padding.pair())
    };
    let pool = |size: &Sides, stride: &Option<Sides>, padding: &Sides| {
        let (size, padding) = (size.pair(), padding.pair());
        if (0..2).any(|axis| padding[axis] > size[axis] / 2) {
            return Err("the padding of a pool may be at most half of its size".to_owned());
        }
        window(Sides::Two(size), stride.unwrap_or(Sides::Two(size)), Sides::Two(padding))
    };
    let placed = match layer {
        LayerSpec::Dense { out: 0 } => return Err("dense needs out of at least 1".into()),
        LayerSpec::Dense { .. } if input.pixels() != 1 => {
            let [height, width] = input.sides();
            return Err(format!("dense takes rows, not images of {height} x {width}; put a flatten before it"));
        }
        LayerSpec::Dense { out } => (Kind::Linear(None), Extent::flat(*out)),
        LayerSpec::Conv { out: 0, .. } => return Err("conv needs out of at least 1".into()),
        LayerSpec::Conv { out, kernel, stride, padding } => {
            let window = window(*kernel, *stride, *padding)?;
            let row = u64::from(window.taps()) * u64::from(input.channels);
            if row > MOST_FEATURES {
                return Err(format!("a kernel of {row} weights an output is too large; make it smaller"));
            }
            (Kind::Linear(Some(window)), Extent::of(window.grid, *out))
        }
        LayerSpec::Dropout { p } => {
            let holds = |seen| (0.0..1.0).contains(&seen);
            match single(*p).map(holds) {
                Ok(true) => (Kind::Dropout(*p), input),
                Ok(false) => return Err(format!("dropout with p = {p}: it must lie in [0, 1), {LESS_THAN_ONE}")),
                Err(problem) => return Err(format!("dropout with p = {p:e}: it {problem}")),
            }
        }
        LayerSpec::BatchNorm {} => (Kind::BatchNorm, input),
        LayerSpec::Relu {} => (Kind::Activation(Activation::Relu), input),
        LayerSpec::Gelu {} => (Kind::Activation(Activation::Gelu), input),
        LayerSpec::MaxPool { size, stride, padding } => {
            let window = pool(size, stride, padding)?;
            (Kind::MaxPool(window), Extent::of(window.grid, input.channels))
        }
        LayerSpec::AvgPool { size, stride, padding } => {
            let window = pool(size, stride, padding)?;
            (Kind::AveragePool(window), Extent::of(window.grid, input.channels))
        }
        LayerSpec::GlobalAvgPool {} => {
            let window = Window::new(input.sides(), input.sides(), [1, 1], [0, 0])?;
            (Kind::AveragePool(window), Extent::flat(input.channels))
        }
        LayerSpec::Flatten {} => (Kind::Flatten, Extent::flat(input.features())),
        LayerSpec::Residual { .. } if inputs[0] != inputs[1] => {
            let text = |e: Extent| format!("{} x {} x {}", e.height, e.width, e.channels);
            let (main, shortcut) = (text(inputs[0]), text(inputs[1]));
            return Err(format!("layers make {main}, shortcut {shortcut}: they must be alike to be added"));
        }
        LayerSpec::Residual { .. } => (Kind::Add, input),
    };
    let features = u64::from(placed.1.pixels()) * u64::from(placed.1.channels);
    if features > MOST_FEATURES {
        return Err(format!(
            "{features} numbers a sample are too many; at most {MOST_FEATURES} can be laid out; make the layer narrower"
        ));
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(out: u32, stride: u32) -> LayerSpec {
        LayerSpec::Conv { out, kernel: Sides::One(3), stride: Sides::One(stride), padding: Sides::One(1) }
    }

    #[test]
    fn a_network_that_begins_dense_takes_images_flat() {
        let dense = [LayerSpec::BatchNorm {}, LayerSpec::Dense { out: 7 }];
        assert_eq!(Graph::new(&dense, [8, 8, 3]).unwrap().input, Extent::flat(192));
        let image = [LayerSpec::BatchNorm {}, LayerSpec::Flatten {}, LayerSpec::Dense { out: 7 }];
        assert_eq!(Graph::new(&image, [8, 8, 3]).unwrap().input, Extent { height: 8, width: 8, channels: 3 });
    }

    #[test]
    fn extents_follow_windows() {
        let layers = [
            conv(16, 2),
            LayerSpec::MaxPool { size: Sides::One(2), stride: None, padding: Sides::One(0) },
            LayerSpec::Residual { layers: vec![conv(5, 1)], shortcut: vec![conv(5, 1), LayerSpec::Relu {}] },
            LayerSpec::GlobalAvgPool {},
        ];
        let graph = Graph::new(&layers, [9, 13, 3]).unwrap();
        let made: Vec<_> = graph.nodes.iter().map(|n| (n.name.as_str(), n.extent.sides(), n.inputs.clone())).collect();
        assert_eq!(
            made,
            [
                ("layers.0", [5, 7], vec![0]),
                ("layers.1", [2, 3], vec![1]),
                ("layers.2.main.0", [2, 3], vec![2]),
                ("layers.2.shortcut.0", [2, 3], vec![2]),
                ("layers.2.shortcut.1", [2, 3], vec![4]),
                ("layers.2", [2, 3], vec![3, 5]),
                ("layers.3", [1, 1], vec![6]),
            ]
        );
    }

    #[test]
    fn what_cannot_stand_where_it_stands_is_named() {
        let fails = |layers: &[LayerSpec], words: [&str; 2]| {
            let error = Graph::new(layers, [4, 4, 2]).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        fails(&[conv(3, 1), LayerSpec::Dense { out: 2 }], ["model.layers[1]", "flatten"]);
        fails(&[conv(0, 1)], ["model.layers[0]", "at least 1"]);
        let wide = LayerSpec::AvgPool { size: Sides::Two([5, 5]), stride: None, padding: Sides::One(0) };
        fails(&[wide], ["model.layers[0]", "5 x 5 is larger"]);
        let halves = LayerSpec::Residual { layers: vec![conv(3, 2)], shortcut: vec![] };
        fails(&[halves], ["model.layers[0]: layers make 2 x 2 x 3", "4 x 4 x 2"]);
        let huge =
            LayerSpec::Conv { out: 1, kernel: Sides::One(65_535), stride: Sides::One(1), padding: Sides::One(32_766) };
        fails(&[huge], ["model.layers[0]", "weights an output"]);
        let nested = LayerSpec::Residual { layers: vec![], shortcut: vec![LayerSpec::Dropout { p: 2.0 }, conv(2, 1)] };
        fails(&[conv(2, 1), nested], ["model.layers[1].shortcut[0]", "[0, 1)"]);
    }
}
