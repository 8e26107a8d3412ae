//! Layers as a graph: what follows what, and how large the images are in between.

use std::ops::Range;
use std::sync::Arc;

use super::layers::{Input, Layer, LayerSpec};
use super::spec::ModelError;
use crate::words::suggest;

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

    pub(super) fn sides(self) -> [u32; 2] {
        [self.height, self.width]
    }

    pub(super) fn of(sides: [u32; 2], channels: u32) -> Extent {
        Extent { height: sides[0], width: sides[1], channels }
    }
}

/// A layer in its place, without its tensors. Values are counted from the input of the network, 0; node i makes value i + 1.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// `layers.<index>`, `layers.<index>.main.<index>`, ...
    pub(super) name: String,
    pub(super) layer: Arc<dyn Layer>,
    /// Values that it takes.
    pub(super) inputs: Vec<usize>,
    /// What it makes.
    pub(super) extent: Extent,
    /// Whether it keeps its first values.
    pub(super) is_frozen: bool,
}

/// All layers, every one behind those whose values it takes.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub(super) input: Extent,
    pub(super) nodes: Vec<Node>,
}

impl Graph {
    /// `image` is height, width, channels of a sample. A network whose first layer that minds is dense takes images flat,
    /// pixel by pixel.
    ///
    /// # Errors
    /// Names the layer that cannot stand where it stands.
    pub(super) fn new(layers: &[LayerSpec], image: [u32; 3]) -> Result<Graph, ModelError> {
        let [height, width, channels] = image;
        let image = Extent { height, width, channels };
        let wants = layers.iter().find_map(|layer| layer.describe().wants());
        let input = if wants == Some(Input::Pixels) { image } else { Extent::flat(image.features()) };
        let mut graph = Graph { input, nodes: Vec::new() };
        graph.append(layers, "layers", "model.layers", 0)?;
        Ok(graph)
    }

    /// Numbers of a sample in the widest place.
    pub(super) fn widest(&self) -> u32 {
        let made = |node: &Node| node.extent.pixels() * node.layer.widest(node.extent.channels);
        self.nodes.iter().map(made).max().unwrap_or(1).max(self.input.features()).max(1)
    }

    /// Extent of a value.
    pub(super) fn extent(&self, value: usize) -> Extent {
        value.checked_sub(1).map_or(self.input, |node| self.nodes[node].extent)
    }

    /// Lets layers keep their first values: those of the names, and those within them. [`BLOCKS`] stands for all residual ones.
    ///
    /// # Errors
    /// If there is no layer of a name, or none of them learns.
    pub(super) fn freeze(&mut self, names: &[String]) -> Result<(), ModelError> {
        for name in names {
            let within = format!("{name}.");
            let is_meant = |node: &Node| match name.as_str() {
                // What lies within one, and the sum that ends it.
                BLOCKS => node.name.matches('.').count() > 1 || node.inputs.len() > 1,
                name => node.name == name || node.name.starts_with(&within),
            };
            let mut found = false;
            for node in self.nodes.iter_mut().filter(|node| is_meant(node) && !node.layer.parameters().is_empty()) {
                (node.is_frozen, found) = (true, true);
            }
            if !found {
                let what = if name == BLOCKS { "residual blocks" } else { "layer" };
                let known: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
                let hint = suggest(name, &known);
                let problem = format!("model.freeze: {name} names no {what} with anything to learn{hint}");
                return Err(ModelError::Network(problem));
            }
        }
        Ok(())
    }

    /// Whether anything learns on the way to each value.
    pub(super) fn learns(&self) -> Vec<bool> {
        self.reached(|node| !node.is_frozen && !node.layer.parameters().is_empty())
    }

    /// Whether such a layer stands on the way to each value.
    pub(super) fn reached(&self, is_such: impl Fn(&Node) -> bool) -> Vec<bool> {
        let mut reached = vec![false];
        for node in &self.nodes {
            reached.push(is_such(node) || node.inputs.iter().any(|&value| reached[value]));
        }
        reached
    }

    /// Columns of a value to which a constant makes no difference to any layer that reads it, of which there is one at least.
    pub(super) fn ignored_shift(&self, value: usize) -> Option<Range<u32>> {
        let mut readers = self.nodes.iter().filter(|node| node.inputs.contains(&value));
        let first = readers.next()?.layer.ignores_shift()?;
        readers.all(|node| node.layer.ignores_shift().as_ref() == Some(&first)).then_some(first)
    }

    /// Adds layers behind a value; returns the last one's.
    fn append(&mut self, layers: &[LayerSpec], name: &str, key: &str, from: usize) -> Result<usize, ModelError> {
        let mut value = from;
        for (index, layer) in layers.iter().enumerate() {
            let (name, key) = (format!("{name}.{index}"), format!("{key}[{index}]"));
            let mut inputs = Vec::new();
            for chain in layer.describe().chains() {
                let (name, key) = (format!("{name}.{}", chain.name), format!("{key}.{}", chain.key));
                inputs.push(self.append(chain.layers, &name, &key, value)?);
            }
            if inputs.is_empty() {
                inputs.push(value);
            }
            let extents: Vec<Extent> = inputs.iter().map(|&value| self.extent(value)).collect();
            let placed = layer.describe().place(&extents).and_then(fitting);
            let (layer, extent) = placed.map_err(|problem| ModelError::Layer { layer: key, problem })?;
            self.nodes.push(Node { name, layer, inputs, extent, is_frozen: false });
            value = self.nodes.len();
        }
        Ok(value)
    }
}

/// Refuses a layer that makes more than can be laid out.
fn fitting((layer, extent): (Arc<dyn Layer>, Extent)) -> Result<(Arc<dyn Layer>, Extent), String> {
    let features = u64::from(extent.height) * u64::from(extent.width) * u64::from(extent.channels);
    if features > MOST_FEATURES {
        return Err(format!(
            "{features} numbers a sample are too many; at most {MOST_FEATURES} can be laid out; make the layer narrower"
        ));
    }
    Ok((layer, extent))
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
    let chosen = nodes.filter(|(at, node)| *at == last || node.layer.is_activation());
    Ok(chosen.map(|(_, node)| node.name).collect())
}

/// In `model.freeze`, all residual blocks.
const BLOCKS: &str = "blocks";

/// Elements that a sample may have in a layer, so that all index arithmetic fits 32 bits.
pub(super) const MOST_FEATURES: u64 = 1 << 28;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sides;
    use crate::model::layers::{
        AvgPool, BatchNorm, Conv, Dense, Dropout, Flatten, GlobalAvgPool, MaxPool, Relu, Residual,
    };

    fn conv(out: u32, stride: u32) -> LayerSpec {
        LayerSpec::Conv(Conv { out, kernel: Sides::One(3), stride: Sides::One(stride), padding: Sides::One(1) })
    }

    #[test]
    fn a_network_that_begins_dense_takes_images_flat() {
        let dense = [LayerSpec::BatchNorm(BatchNorm {}), LayerSpec::Dense(Dense::new(7))];
        assert_eq!(Graph::new(&dense, [8, 8, 3]).unwrap().input, Extent::flat(192));
        let image =
            [LayerSpec::BatchNorm(BatchNorm {}), LayerSpec::Flatten(Flatten {}), LayerSpec::Dense(Dense::new(7))];
        assert_eq!(Graph::new(&image, [8, 8, 3]).unwrap().input, Extent { height: 8, width: 8, channels: 3 });
    }

    #[test]
    fn extents_follow_windows() {
        let layers = [
            conv(16, 2),
            LayerSpec::MaxPool(MaxPool { size: Sides::One(2), stride: None, padding: Sides::One(0) }),
            LayerSpec::Residual(Residual {
                layers: vec![conv(5, 1)],
                shortcut: vec![conv(5, 1), LayerSpec::Relu(Relu {})],
                ..Residual::default()
            }),
            LayerSpec::GlobalAvgPool(GlobalAvgPool {}),
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
    fn a_dense_layer_acts_at_every_position() {
        let graph = Graph::new(&[conv(3, 1), LayerSpec::Dense(Dense::new(2))], [4, 4, 2]).unwrap();
        assert_eq!(graph.nodes[1].extent, Extent { height: 4, width: 4, channels: 2 });
    }

    #[test]
    fn what_cannot_stand_where_it_stands_is_named() {
        let fails = |layers: &[LayerSpec], words: [&str; 2]| {
            let error = Graph::new(layers, [4, 4, 2]).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        fails(&[conv(0, 1)], ["model.layers[0]", "at least 1"]);
        let wide = LayerSpec::AvgPool(AvgPool { size: Sides::Two([5, 5]), stride: None, padding: Sides::One(0) });
        fails(&[wide], ["model.layers[0]", "5 x 5 is larger"]);
        let halves = LayerSpec::Residual(Residual { layers: vec![conv(3, 2)], ..Residual::default() });
        fails(&[halves], ["model.layers[0]: layers make 2 x 2 x 3", "4 x 4 x 2"]);
        let huge = LayerSpec::Conv(Conv {
            out: 1,
            kernel: Sides::One(65_535),
            stride: Sides::One(1),
            padding: Sides::One(32_766),
        });
        fails(&[huge], ["model.layers[0]", "weights an output"]);
        let nested = LayerSpec::Residual(Residual {
            shortcut: vec![LayerSpec::Dropout(Dropout { p: 2.0 }), conv(2, 1)],
            ..Residual::default()
        });
        fails(&[conv(2, 1), nested], ["model.layers[1].shortcut[0]", "[0, 1)"]);
        for drop_path in [1.0, -0.1, f64::NAN] {
            let dropped = LayerSpec::Residual(Residual { layers: vec![conv(2, 1)], drop_path, ..Residual::default() });
            fails(&[dropped], ["model.layers[0]: residual with drop_path = ", "it must"]);
        }
        for scale in [0.0, -1e-4, f64::INFINITY, 1e-60] {
            let layer_scale = Some(scale);
            let scaled = LayerSpec::Residual(Residual { layers: vec![conv(2, 1)], layer_scale, ..Residual::default() });
            fails(&[scaled], ["model.layers[0]: residual with layer_scale = ", ": it "]);
        }
    }
}
